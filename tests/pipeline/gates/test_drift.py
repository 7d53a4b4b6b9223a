"""Two lanes of one model are close; an operation that differs is counted, a number that differs fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.converted_students import LENGTHS, SLOTS, converted
from fakes.students import tiny_student

from interlock.contracts.package import Drift
from interlock.voice import SilentVoice
from pipeline.coreml.facts import read_package
from pipeline.coreml.functions import plan_functions
from pipeline.coreml.merge import merge_functions
from pipeline.gates.drift import ROWS, STEPS, measure_drift
from pipeline.gates.package import failures

pytestmark = pytest.mark.export
PROMPT = [i * 7 % 101 for i in range(101)]


@pytest.fixture(scope="module")
def lanes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    from pipeline.coreml.export_lane import convert_stateful_exported

    made, folder = converted(), tmp_path_factory.mktemp("lanes")
    parts, _ = convert_stateful_exported(made.exported.student, made.exported.signatures, plan_functions(LENGTHS), SLOTS, folder, lambda _: None)
    for name, packages in (("trace", made.packages), ("export", parts)):
        merge_functions(packages, "decode", folder / f"{name}.mlpackage", lambda _: None)
    return folder / "trace.mlpackage", folder / "export.mlpackage"


def drift(first: Path, second: Path) -> Drift:
    facts = read_package(first), read_package(second)
    with SilentVoice().task("") as task:
        return measure_drift((first, second), facts, converted().exported.student, PROMPT, 50.0, task)


def test_both_lanes_compute_the_student(lanes: tuple[Path, Path]) -> None:
    found = drift(*lanes)
    assert not failures(found.evidence, repeatable=True)
    assert {(item.function, item.output, item.against) for item in found.evidence} == {
        (function, output, against)
        for function in ("prefill_32", "prefill_64", "decode")
        for output in ("logits", "halt_logits", "hidden")
        for against in (None, "trace")
    }
    assert {item.positions for item in found.evidence} == {ROWS, STEPS}
    # Two layers: one write for each cache at the end, not one for each layer; each of them twice a slice, of the layer and of the cache.
    assert {name: counts["write_state"] for name, counts in found.operations.items()} == dict.fromkeys(("prefill_32", "prefill_64", "decode"), -2)
    assert all(counts["slice_update"] == 4 and "linear" not in counts for counts in found.operations.values())


def test_a_lane_does_not_drift_from_itself(lanes: tuple[Path, Path]) -> None:
    found = drift(lanes[0], lanes[0])
    assert not any(found.operations.values())
    assert all(item.psnr_db == 200.0 for item in found.evidence if item.against == "trace")


def test_another_model_fails_against_both(lanes: tuple[Path, Path], tmp_path: Path) -> None:
    from pipeline.coreml.export_lane import convert_stateful_exported

    made = converted()
    student = tiny_student(made.exported.student.heads, n_layers=2, tie_embeddings=True, max_position=128)
    student.blocks[1].attn.wv.weight.data *= -1
    parts, _ = convert_stateful_exported(student, made.exported.signatures, plan_functions(LENGTHS), SLOTS, tmp_path, lambda _: None)
    merge_functions(parts, "decode", tmp_path / "other.mlpackage", lambda _: None)
    wrong = failures(drift(lanes[0], tmp_path / "other.mlpackage").evidence, repeatable=True)
    assert any("against trace" in line for line in wrong) and any("against trace" not in line for line in wrong)
