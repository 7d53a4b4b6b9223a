"""Qwen2, Qwen3, Mistral and SmolLM3 through stages export and convert, with the gate: what each adds is in the package, and its lack is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.relatives import ALL, RELATIVES, relative_student
from fakes.toy_exports import toy_export

from interlock.contracts import io, package
from interlock.contracts.checkpoint import Arch, ModelArch
from interlock.voice import SilentVoice

pytestmark = pytest.mark.export

WINDOW = 12  # a third of the text that the gate reads
FIELDS: dict[str, dict[str, Any]] = {
    "qwen2": RELATIVES["qwen2"], "qwen3": RELATIVES["qwen3"], "mistral": {"sliding_window": WINDOW}, "smollm3": {"no_rope_layers": (1,)},
    "all": {**ALL, "sliding_window": WINDOW, "no_rope_layers": (1,)},
}  # fmt: skip
SMALL: dict[str, Any] = {"n_layers": 2, "max_position": 96}
# Operations that a plain Llama of this size has none of, or fewer, in one function.
SHOWS = {"qwen3": ("rsqrt", 2 * 2 + 1 + 2 * 2), "mistral": ("logical_or", 1)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each, a folder with checkpoint, exported and package, from the stages."""
    from pipeline.driver import stage
    from pipeline.stages import convert

    folders = {}
    for name, fields in FIELDS.items():
        folders[name] = folder = tmp_path_factory.mktemp(name)
        toy_export(folder, student=relative_student(ModelArch(use_halt_head=True), **SMALL, **fields))
        params = convert.Params(out=folder / "package", toy=True, source=folder / "exported", checkpoint=folder / "checkpoint", lane="both")
        stage.run(convert.STAGE, params, SilentVoice())
    return folders


@pytest.mark.parametrize("name", FIELDS)
def test_the_package_is_published_with_evidence_against_the_checkpoint(made: dict[str, Path], name: str) -> None:
    contract = io.read_artifact(made[name] / "package", package.PackageContract)
    assert contract.arch == Arch(**{**relative_student(**SMALL, **FIELDS[name]).arch.model_dump()})
    assert contract.gate is not None and contract.gate.reference == "checkpoint" and contract.gate.repeatable
    assert max(item.positions for item in contract.gate.evidence if item.function == "decode" and not item.case) > WINDOW
    assert all(item.psnr_db is not None and item.psnr_db >= 50 for item in contract.gate.evidence)
    assert contract.drift is not None and all(item.psnr_db is not None and item.psnr_db > 55 for item in contract.drift.evidence)
    if name in SHOWS:
        operation, count = SHOWS[name]
        assert contract.facts.functions["decode"].operations[operation] == count


@pytest.mark.parametrize("name", FIELDS)
def test_a_package_without_what_the_family_adds_does_not_pass_its_gate(made: dict[str, Path], name: str) -> None:
    """The same package against a student of the same weights that does not have it."""
    from pipeline.coreml.facts import read_package
    from pipeline.gates.package import failures, measure
    from runtime.student.model import Student

    student = relative_student(ModelArch(use_halt_head=True), **SMALL, **FIELDS[name])
    plain = Student(student.arch.model_copy(update={"attention_bias": False, "qk_norm": False, "sliding_window": None, "no_rope_layers": ()}),
                    student.heads)  # fmt: skip
    plain.load_state_dict(student.state_dict(), strict=False)
    path = made[name] / "package" / package.PACKAGE
    with SilentVoice().task("") as task:
        found = measure(path, read_package(path), plain.eval().requires_grad_(False), [(i * 37) % 101 for i in range(97)], task)
    assert any("decode" in line and "logits" in line for line in failures(found.evidence, found.repeatable))


@pytest.mark.parametrize("name", FIELDS)
def test_every_mode_of_the_reference_runner_says_the_same(made: dict[str, Path], name: str) -> None:
    """The fast executor knows attention, norms and rotation by their patterns: these have more of them, or fewer."""
    import torch

    from runtime.mil import Runner, open_package
    from runtime.numerics import psnr_db

    program = open_package(made[name] / "package" / package.PACKAGE)
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
