"""Facts come from the saved files; a package that is broken, foreign or self-contradicting is refused with the place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes.converted_students import converted

from interlock.errors import ContractError
from pipeline.coreml.facts import MAX_FILES, read_package
from pipeline.coreml.merge import WEIGHTS
from pipeline.coreml.messages import collected, load_converter
from pipeline.coreml.normal import MANIFEST, MODEL

pytestmark = pytest.mark.export


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return Path(shutil.copytree(converted().packages["decode"], tmp_path / "model.mlpackage"))


def test_operations_and_weights_are_counted_as_coremltools_does(package: Path) -> None:
    ct, _ = load_converter()
    with collected():
        model = ct.models.MLModel(str(package), skip_model_load=True)
        operations = model.get_spec().mlProgram.functions["main"].block_specializations["CoreML8"].operations
    facts = read_package(package)
    assert sum(facts.functions["main"].operations.values()) == len(operations)
    assert facts.functions["main"].operations["scaled_dot_product_attention"] == 2  # one per layer
    assert facts.weight_bytes == (package / WEIGHTS).stat().st_size
    assert facts.has_output("halt_logits") and not facts.has_output("quality")


def rewrite(package: Path, change: Callable[[Any], None]) -> None:
    from coremltools.proto import Model_pb2

    model = Model_pb2.Model()
    model.ParseFromString((package / MODEL).read_bytes())
    change(model)
    (package / MODEL).write_bytes(model.SerializeToString())


def rename_output(model: Any) -> None:
    model.description.output[0].name = "var_344"


def drop_state(model: Any) -> None:
    del model.description.state[0]


def rename_function(model: Any) -> None:
    model.mlProgram.functions["other"].CopyFrom(model.mlProgram.functions["main"])


def other_type(model: Any) -> None:
    model.ClearField("mlProgram")
    model.identity.SetInParent()


@pytest.mark.parametrize(
    ("change", "expected"),
    [(rename_output, "functions/main/outputs"), (drop_state, "functions/main/inputs"), (rename_function, "functions"), (other_type, "Type")],
)
def test_a_model_that_contradicts_itself_is_refused(change: Callable[[Any], None], expected: str, package: Path) -> None:
    rewrite(package, change)
    with pytest.raises(ContractError) as refused:
        read_package(package)
    assert refused.value.violations[0].where == expected


def not_protobuf(package: Path) -> None:
    (package / MODEL).write_bytes(b"\xff" * 100)


def no_model(package: Path) -> None:
    (package / MODEL).unlink()


def huge_model(package: Path) -> None:
    with (package / MODEL).open("r+b") as file:
        file.truncate(300 << 20)  # sparse


def linked_weights(package: Path) -> None:
    (package / WEIGHTS).unlink()
    (package / WEIGHTS).symlink_to("/etc/passwd")


def not_json(package: Path) -> None:
    (package / MANIFEST).write_text("{")


def deep_json(package: Path) -> None:
    (package / MANIFEST).write_text("[" * 100_000)


def odd_json(package: Path) -> None:
    (package / MANIFEST).write_text('{"itemInfoEntries": [1]}')


def outside_item(package: Path) -> None:
    manifest = json.loads((package / MANIFEST).read_text())
    manifest["itemInfoEntries"]["x"] = {"path": "../../secret"}
    (package / MANIFEST).write_text(json.dumps(manifest))


def many_files(package: Path) -> None:
    for i in range(MAX_FILES):
        (package / f"{i}").touch()


def nothing_there(package: Path) -> None:
    shutil.rmtree(package)


@pytest.mark.parametrize(
    "damage", [not_protobuf, no_model, huge_model, linked_weights, not_json, deep_json, odd_json, outside_item, many_files, nothing_there]
)
def test_damage_is_refused_without_a_traceback(damage: Callable[[Path], None], package: Path) -> None:
    damage(package)
    with pytest.raises(ContractError):
        read_package(package)
