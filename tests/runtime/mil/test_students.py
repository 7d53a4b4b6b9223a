"""Packages that this project makes, against the eager student: prefill, then decoding with the state, in both modes.

Error model (see test_models.py): a student of two layers has about 30 roundings on its longest path, expected 2^-11 · √30 below the peak: 51 dB.
In fp32 mode nothing is rounded. The reference has the package's own fp16 constants (weights and rope tables), so that only the order of sums
is left: above 100 dB, as for every program converted in fp32.
"""

from __future__ import annotations

import tempfile
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes.converted_students import LENGTHS, SLOTS, converted
from fakes.exported_students import export_student, storable
from fakes.students import some_ids, tiny_student

from interlock.contracts.checkpoint import ModelArch
from interlock.contracts.export import PREFILL
from pipeline.coreml import functions, merge
from runtime.mil import Program, Runner, open_package
from runtime.mil.execute import Mode
from runtime.numerics import psnr_db
from runtime.student.model import Student

pytestmark = [pytest.mark.export, pytest.mark.filterwarnings("ignore")]
BOUND_DB: dict[Mode, float] = {"fp32": 100.0, "fp16": 46.0}


@cache
def merged() -> tuple[Program, Any]:
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name) / "model.mlpackage"
    merge.merge_functions(converted().packages, "decode", path, lambda text: None)
    return open_package(path), folder


def with_stored_tables(student: Student) -> Student:
    """The student with its rope tables as the package stores them."""
    copy = deepcopy(student)
    for table in (copy.rope_cos, copy.rope_sin):
        table.copy_(table.half().float())
    return copy


def worst(expected: Any, outputs: dict[str, Any]) -> float:
    """The lowest PSNR over the outputs, for the last position."""
    wanted = {"logits": expected.logits[:, -1:], "halt_logits": expected.halt_logits, "hidden": expected.hidden[:, -1:]}
    return min(psnr_db(wanted[name], torch.from_numpy(array.astype(np.float32))) for name, array in outputs.items())


def positions(start: int, count: int) -> Any:
    return np.arange(start, start + count, dtype=np.int32)


@pytest.mark.parametrize("mode", ["fp32", "fp16"])
def test_prefill_then_decode_equals_the_student(mode: Mode) -> None:
    student = with_stored_tables(converted().exported.student)
    runner = Runner(merged()[0], mode)
    ids = some_ids(student.arch, 1, SLOTS)
    state, found = runner.new_state("prefill_64"), []
    with torch.no_grad():
        prompt = ids[:, :64].numpy().astype(np.int32)
        given = {"input_ids": prompt, "position_ids": positions(0, 64), "last_index": np.array([63], np.int32)}
        found.append(worst(student(ids[:, :64]), runner.run("prefill_64", given, state)))
        for at in range(64, 80):
            given = {"input_ids": ids[:, at : at + 1].numpy().astype(np.int32), "position_ids": positions(at, 1)}
            found.append(worst(student(ids[:, : at + 1]), runner.run("decode", given, state)))
    assert min(found) > BOUND_DB[mode], found


def test_a_padded_prompt_gives_what_the_prompt_gives() -> None:
    """50 tokens in a function of 64: the last true position is read, and padding is overwritten by what follows."""
    student = with_stored_tables(converted().exported.student)
    runner, ids = Runner(merged()[0]), some_ids(student.arch, 1, 60)
    padded = np.zeros((1, 64), np.int32)
    padded[:, :50] = ids[:, :50]
    state = runner.new_state("decode")
    given = {"input_ids": padded, "position_ids": positions(0, 64), "last_index": np.array([49], np.int32)}
    with torch.no_grad():
        assert worst(student(ids[:, :50]), runner.run("prefill_64", given, state)) > BOUND_DB["fp32"]
        for at in range(50, 60):
            step = {"input_ids": ids[:, at : at + 1].numpy().astype(np.int32), "position_ids": positions(at, 1)}
            found = worst(student(ids[:, : at + 1]), runner.run("decode", step, state))
    assert found > BOUND_DB["fp32"]


def test_functions_share_their_weights() -> None:
    """A second function of the package adds no weight of its own."""
    program = merged()[0]
    runner = Runner(program)
    runner.plan("prefill_64")
    before = runner.weight_bytes
    runner.plan("prefill_32")
    after = runner.weight_bytes
    assert after - before < 0.02 * before


def test_two_runs_are_the_same_bits() -> None:
    runner, given = Runner(merged()[0], "fp16"), {"input_ids": np.array([[7]], np.int32), "position_ids": positions(0, 1)}
    first, second = (runner.run("decode", given, runner.new_state("decode")) for _ in range(2))
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


@pytest.mark.parametrize("target", ["iOS16", "iOS18"])
def test_the_single_layout_at_every_enumerated_length(target: Any, tmp_path: Path) -> None:
    student = storable(tiny_student(ModelArch(use_halt_head=True), n_layers=2, tie_embeddings=True, max_position=128))
    exported = export_student(student, tmp_path)
    path = tmp_path / "single.mlpackage"
    functions.convert_single(exported.files[PREFILL], exported.signatures[PREFILL], LENGTHS, LENGTHS[0], target, path, lambda text: None)
    program = open_package(path)
    for mode, bound in BOUND_DB.items():
        for length in LENGTHS:
            ids = some_ids(student.arch, 1, length)
            (name,) = program.functions
            outputs = Runner(program, mode).run(name, {"input_ids": ids.numpy().astype(np.int32)})
            with torch.no_grad():
                expected = with_stored_tables(student)(ids)
            assert psnr_db(expected.logits, torch.from_numpy(outputs["logits"].astype(np.float32))) > bound
            assert psnr_db(expected.halt_logits, torch.from_numpy(outputs["halt_logits"].astype(np.float32))) > bound
