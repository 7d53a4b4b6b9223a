"""Merged by copying records: the same package as coremltools' own merge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes.converted_students import converted

from interlock.errors import ContractError
from pipeline.coreml.facts import read_package
from pipeline.coreml.merge import WEIGHTS, merge_functions
from pipeline.coreml.messages import collected, load_converter
from pipeline.coreml.normal import MODEL, normalise, tree_digest
from pipeline.coreml.weights import BlobFile

pytestmark = pytest.mark.export


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("merged") / "model.mlpackage"
    merge_functions(converted().packages, "decode", path, lambda _: None)
    return path


@pytest.fixture(scope="module")
def by_coremltools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ct, _ = load_converter()
    path = tmp_path_factory.mktemp("theirs") / "model.mlpackage"
    with collected():
        functions = ct.utils.MultiFunctionDescriptor()
        for name, package in converted().packages.items():
            functions.add_function(str(package), "main", name)
        functions.default_function_name = "decode"
        ct.utils.save_multifunction(functions, str(path))
    return path


def model_of(package: Path) -> Any:
    from coremltools.proto import Model_pb2

    model = Model_pb2.Model()
    model.ParseFromString((package / MODEL).read_bytes())
    return model


def with_contents(package: Path) -> Any:
    """The model with every blob offset replaced by what stands there, without metadata (save_multifunction drops it) and without the remarks
    that name operations on states (it counts them anew); nothing refers to those, unlike the names of their results."""
    model, weights = model_of(package), BlobFile(package / WEIGHTS)
    model.description.ClearField("metadata")
    for function in model.mlProgram.functions.values():
        for block in function.block_specializations.values():
            for op in block.operations:
                if op.type in ("read_state", "write_state"):
                    op.attributes.pop("name")
            for value in (value for op in block.operations for value in op.attributes.values() if value.WhichOneof("value") == "blobFileValue"):
                value.blobFileValue.fileName = str(weights.at(value.blobFileValue.offset).key())
                value.blobFileValue.offset = 0
    return model


def test_program_and_weights_are_those_of_save_multifunction(merged: Path, by_coremltools: Path) -> None:
    assert with_contents(merged) == with_contents(by_coremltools)
    assert (merged / WEIGHTS).stat().st_size == (by_coremltools / WEIGHTS).stat().st_size


def test_functions_share_their_weights(merged: Path) -> None:
    parts = [(package / WEIGHTS).stat().st_size for package in converted().packages.values()]
    assert (merged / WEIGHTS).stat().st_size < 1.02 * max(parts)


def test_coremltools_opens_every_function(merged: Path) -> None:
    ct, _ = load_converter()
    from coremltools.converters.mil.frontend.milproto.load import load

    with collected():
        model = ct.models.MLModel(str(merged), skip_model_load=True)
        program = load(model.get_spec(), model.get_spec().specificationVersion, model.weights_dir)
    assert set(program.functions) == {"prefill_32", "prefill_64", "decode"}
    program.validate()


def test_default_function_and_metadata_survive(merged: Path) -> None:
    facts = read_package(merged)
    assert (facts.default_function, facts.specification_version) == ("decode", 9)
    assert facts.metadata["com.github.apple.coremltools.version"] == "9.0"


def test_result_is_in_normal_form(merged: Path) -> None:
    before = tree_digest(merged)
    normalise(merged)
    assert tree_digest(merged) == before


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    import shutil

    package = tmp_path / "cut.mlpackage"
    shutil.copytree(converted().packages["decode"], package)
    data = (package / WEIGHTS).read_bytes()
    (package / WEIGHTS).write_bytes(data[: len(data) // 2])
    with pytest.raises(ContractError, match="the record of a blob inside the file"):
        merge_functions({"decode": package}, "decode", tmp_path / "out.mlpackage", lambda _: None)
