"""Stage convert with --compress: of an export or of its fp16 package the same files, a true inventory, and nothing that fails its gate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.quantised_checkpoints import kinds_of, write_quantised
from fakes.students import compressible_student

from interlock.contracts import checkpoint, io, package
from interlock.errors import ContractError, GateFailed, UsageError
from interlock.voice import SilentVoice

pytestmark = pytest.mark.export
# Few slots after the prefill: the gate decodes as many steps.
SLOTS = 64


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `checkpoint` (Q8_0, Q4_1 and Q4_0), `exported` and `fp16`, a finished package."""
    from pipeline.driver import stage
    from pipeline.stages import export

    folder = tmp_path_factory.mktemp("compress")
    student = compressible_student()
    write_quantised(folder / "checkpoint", student, kinds_of(student))
    params = export.Params(out=folder / "exported", toy=True, checkpoint=folder / "checkpoint", lengths=(32,), primary=32)
    stage.run(export.STAGE, params, SilentVoice())
    convert(folder, "exported", folder / "fp16", cache_length=SLOTS)
    return folder


def fp16(toy: Path) -> package.PackageContract:
    return io.read_artifact(toy / "fp16", package.PackageContract)


def size(package: Path) -> int:
    """Bytes of its weights."""
    return (package / "Data/com.apple.CoreML/weights/weight.bin").stat().st_size


@pytest.fixture(scope="module")
def carried(toy: Path) -> package.PackageContract:
    """`source` in the folder: the package made of the export in one go."""
    return convert(toy, "exported", toy / "source", compress="source", cache_length=SLOTS)


def compressed(toy: Path, into: Path, **request: Any) -> Any:
    """The fp16 package compressed without the stage, so without its gate."""
    from pipeline.coreml.compression.compress import Request, compress
    from runtime.student.checkpoint import load_student

    student = load_student(toy / "checkpoint", io.read_artifact(toy / "checkpoint", checkpoint.CheckpointContract))
    ids = [at * 7919 % student.arch.vocab_size for at in range(64)]
    return compress(toy / "fp16" / package.PACKAGE, into, Request(**request), student, (), ids, lambda _: None)


def convert(toy: Path, source: str, out: Path, **fields: Any) -> package.PackageContract:
    from pipeline.driver import stage
    from pipeline.stages import convert
    from pipeline.verify import verify

    given = {"checkpoint": toy / "checkpoint", **fields}
    stage.run(convert.STAGE, convert.Params(out=out, toy=True, source=toy / source, **given), SilentVoice())
    made = verify(out, SilentVoice()).contract
    assert isinstance(made, package.PackageContract)
    return made


def test_the_sources_own_blocks_are_carried_and_pass_the_gate_of_fp16(toy: Path, carried: package.PackageContract) -> None:
    kinds = kinds_of(compressible_student())
    weights = carried.compression.weights
    assert {name: weight.form for name, weight in weights.items()} == {name: f"{kind} blocks of 32" for name, kind in sorted(kinds.items())}
    assert all(weight.reason is None and weight.snr_db > 70 and weight.bits in (4.625, 5, 8.5) for weight in weights.values())
    assert carried.gate.thresholds == fp16(toy).gate.thresholds
    assert carried.facts.functions["decode"].operations["constexpr_blockwise_shift_scale"] == len(kinds)
    assert carried.facts.metadata["interlock.compression"].startswith("source-quantised")


def test_an_export_and_its_fp16_package_give_the_same_files(toy: Path, carried: package.PackageContract, tmp_path: Path) -> None:
    later = convert(toy, "fp16", tmp_path / "later", compress="source")
    assert carried.tree_digest == later.tree_digest != fp16(toy).tree_digest
    assert (carried.compression.made_from, later.compression.made_from) == (None, fp16(toy).digest)
    assert carried.compression.weights == later.compression.weights and carried.gate.evidence == later.gate.evidence
    assert [ref.kind for ref in later.inputs] == ["export", "package"] and later.inputs[1].digest == fp16(toy).digest


def test_the_inventory_has_every_matrix_and_its_size(toy: Path, tmp_path: Path) -> None:
    made = compressed(toy, tmp_path / "new.mlpackage", method="int8", group=32)
    assert len(made.weights) == 15
    assert {(weight.form, weight.bits) for weight in made.weights.values()} == {("int8 blocks of 32", 8.5)}
    stored = sum(weight.shape[0] * weight.shape[1] * weight.bits / 8 for weight in made.weights.values())
    # besides: RoPE tables [512, 8] twice; norms, zeros for biases, a record and padding for each array
    assert 0 < size(tmp_path / "new.mlpackage") - stored - 2 * 512 * 8 * 2 < 16 * 1024


def test_a_kind_without_a_form_stays_dense_with_its_reason(tmp_path: Path, toy: Path) -> None:
    """Its blocks are there and unread: the format has no operation for them."""
    from fakes.quantised_checkpoints import describe

    from pipeline.coreml.compression.carried import carried
    from pipeline.coreml.compression.compress import Request, compress
    from runtime.student.checkpoint import load_student

    contract = io.read_artifact(toy / "checkpoint", checkpoint.CheckpointContract)
    student = load_student(toy / "checkpoint", contract)
    copy = tmp_path / "checkpoint"
    copy.mkdir()
    for entry in contract.files:
        (copy / entry.path).write_bytes((toy / "checkpoint" / entry.path).read_bytes())
    kinds = {**kinds_of(student), "blocks.0.mlp.w1.weight": "Q2_K"}
    del kinds["blocks.0.mlp.w2.weight"]
    blocks = carried(copy, describe(copy, student, kinds), student)
    made = compress(toy / "fp16" / package.PACKAGE, tmp_path / "new.mlpackage", Request("source"), student, blocks, [], lambda _: None)
    dense = {name: weight for name, weight in made.weights.items() if weight.form == "fp16"}
    assert {name: weight.reason for name, weight in dense.items()} == {
        "blocks.0.mlp.w1.weight": "Q2_K blocks have no form in a package", "blocks.0.mlp.w2.weight": "the source stored it dense",
    }  # fmt: skip
    assert all(weight.bits == 16 for weight in dense.values()) and len(made.weights) == 15


def test_a_target_size_is_kept_and_its_frontier_recorded(toy: Path, tmp_path: Path) -> None:
    compressed(toy, tmp_path / "int8.mlpackage", method="int8", group=0)
    target = size(tmp_path / "int8.mlpackage") + 4096
    made = compressed(toy, tmp_path / "mixed.mlpackage", method="int4", target_bytes=target)
    (chosen,) = (point for point in made.frontier if point.chosen)
    assert size(tmp_path / "mixed.mlpackage") <= chosen.weight_bytes <= target
    forms = [weight.form for weight in made.weights.values()]
    assert {form: forms.count(form) for form in forms} == chosen.forms


def test_what_its_gate_rejects_is_kept_with_the_command_that_makes_it_again(toy: Path, tmp_path: Path) -> None:
    """Four bits for a row are too few for random weights."""
    with pytest.raises(GateFailed) as failed:
        convert(toy, "fp16", tmp_path / "package", compress="int4", group=0)
    kept = tmp_path / "rejected" / "package"
    assert not (tmp_path / "package").exists() and str(kept) in failed.value.remedy
    evidence = json.loads((kept / "evidence.json").read_text())
    assert "--compress int4 --group 0" in evidence["command"] and evidence["compression"]["weights"]["embed.weight"]["form"] == "int4 per channel"
    # finer forms that would pass are named, as found by a search that starts from the rejected one
    (better,) = (point for point in evidence["mixed"] if point["chosen"])
    assert better["kl_measured"] < evidence["gate"]["thresholds"]["kl_mean"] and "--target-kl" in failed.value.remedy


def test_a_compressed_package_is_no_input(toy: Path, carried: package.PackageContract, tmp_path: Path) -> None:
    with pytest.raises(ContractError) as refused:
        convert(toy, "source", tmp_path / "again", compress="int8")
    assert carried.compression.method == "source" and refused.value.violations[0].where == "/compression/method"
    assert "fp16 package" in refused.value.remedy


def test_another_checkpoint_is_refused(toy: Path, tmp_path: Path) -> None:
    other = compressible_student()
    other.get_parameter("embed.weight").data *= 2
    write_quantised(tmp_path / "other", other, kinds_of(other))
    with pytest.raises(ContractError) as refused:
        convert(toy, "fp16", tmp_path / "package", checkpoint=tmp_path / "other", compress="source")
    assert refused.value.violations[0].where == "/digest" and str(tmp_path / "other") in refused.value.violations[0].file


@pytest.mark.parametrize(
    ("source", "fields", "text"),
    [
        ("exported", {"compress": "source", "checkpoint": None}, "--checkpoint is missing: the source's blocks"),
        ("fp16", {"compress": "int8", "checkpoint": None}, "--checkpoint is missing: a finished package"),
        ("fp16", {}, "is a package already"),
        ("fp16", {"compress": "int8", "cache_length": 96}, "--cache-length belongs to a conversion"),
        ("exported", {"compress": "source", "group": 32}, "--compress source takes no --group"),
        ("exported", {"group": 32}, "--compress none takes no --group"),
        ("exported", {"compress": "source", "target_bytes": 1}, "--compress source leaves nothing to search"),
        ("exported", {"target_kl": 1e-3}, "--compress none leaves nothing to search"),
    ],
)
def test_options_that_contradict_each_other_are_refused_before_any_work(
    toy: Path, tmp_path: Path, source: str, fields: dict[str, Any], text: str
) -> None:
    with pytest.raises(UsageError, match=text):
        convert(toy, source, tmp_path / "package", **fields)
    assert not (tmp_path / "package").exists()
