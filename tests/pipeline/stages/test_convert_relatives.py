"""Qwen2, Qwen3, Mistral and SmolLM3 through stages export and convert, with the gate: what each adds is in the package, and its lack is refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes.relatives import ALL, RELATIVES, relative_student
from fakes.toy_exports import toy_export

from interlock.contracts import io, package
from interlock.contracts.checkpoint import ModelArch
from interlock.voice import SilentVoice
from runtime.student.model import Student

pytestmark = pytest.mark.export

WINDOW = 12  # a third of the text that the gate reads
FIELDS: dict[str, dict[str, Any]] = {
    "qwen2": RELATIVES["qwen2"], "qwen3": RELATIVES["qwen3"], "mistral": {"sliding_window": WINDOW}, "smollm3": {"no_rope_layers": (1,)},
    "all": {**ALL, "sliding_window": WINDOW, "no_rope_layers": (1,)},
}  # fmt: skip
PLAIN: dict[str, Any] = {"attention_bias": False, "qk_norm": False, "sliding_window": None, "no_rope_layers": ()}
HALT = ModelArch(use_halt_head=True)
SMALL: dict[str, Any] = {"n_layers": 2, "max_position": 96}
# Operations that a plain Llama of this size has none of, or fewer, in one function.
SHOWS = {"qwen3": ("rsqrt", 2 * 2 + 1 + 2 * 2), "mistral": ("logical_or", 1)}


@dataclass(frozen=True)
class Made:
    """What the stages made of a student: `checkpoint`, `exported` and `package` in a folder."""

    name: str
    student: Student
    folder: Path


@pytest.fixture(scope="module", params=FIELDS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    from pipeline.driver import stage
    from pipeline.stages import convert

    folder, student = tmp_path_factory.mktemp(request.param), relative_student(HALT, **SMALL, **FIELDS[request.param])
    toy_export(folder, student=student)
    params = convert.Params(
        out=folder / "package",
        toy=True,
        source=folder / "exported",
        checkpoint=folder / "checkpoint",
        lane="export" if request.param == "all" else "trace",  # each alone by one front end, all together by the other
    )
    stage.run(convert.STAGE, params, SilentVoice())
    return Made(request.param, student, folder)


def test_the_package_is_published_with_evidence_against_the_checkpoint(made: Made) -> None:
    contract = io.read_artifact(made.folder / "package", package.PackageContract)
    assert contract.arch == made.student.arch
    assert contract.gate is not None and contract.gate.reference == "checkpoint" and contract.gate.repeatable
    assert max(item.positions for item in contract.gate.evidence if item.function == "decode" and not item.case) > WINDOW
    assert all(item.psnr_db is not None and item.psnr_db >= 50 for item in contract.gate.evidence)
    if made.name in SHOWS:
        operation, count = SHOWS[made.name]
        assert contract.facts.functions["decode"].operations[operation] == count


def test_a_package_without_what_the_family_adds_does_not_pass_its_gate(made: Made) -> None:
    """The same package against a student of the same weights that does not have it."""
    from pipeline.coreml.facts import read_package
    from pipeline.gates.package import failures, measure

    plain = Student(made.student.arch.model_copy(update=PLAIN), HALT)
    plain.load_state_dict(made.student.state_dict(), strict=False)
    path = made.folder / "package" / package.PACKAGE
    with SilentVoice().task("") as task:
        found = measure(path, read_package(path), plain.eval().requires_grad_(False), [(i * 37) % 101 for i in range(97)], task)
    assert any("decode" in line and "logits" in line for line in failures(found.evidence, found.repeatable))


def test_every_mode_of_the_reference_runner_says_the_same(made: Made) -> None:
    """The fast executor knows attention, norms and rotation by their patterns: these have more of them, or fewer."""
    from runtime.mil import Runner, open_package
    from runtime.numerics import psnr_db

    program = open_package(made.folder / "package" / package.PACKAGE)
    said = {}
    for mode in ("fp32", "fast"):
        runner = Runner(program, mode=mode)  # type: ignore[arg-type]
        state = runner.new_state("prefill_32")
        tokens = np.arange(32, dtype=np.int32)
        inputs = {"input_ids": tokens[None] % 101, "position_ids": tokens, "last_index": np.array([31], np.int32)}
        steps = [runner.run("prefill_32", inputs, state)]
        steps += [
            runner.run("decode", {"input_ids": places[None], "position_ids": places}, state) for places in np.arange(32, 60, dtype=np.int32)[:, None]
        ]
        said[mode] = torch.cat([torch.as_tensor(step["logits"]).float().reshape(1, -1) for step in steps])
    assert psnr_db(said["fp32"], said["fast"]) >= 60
