"""The second lane makes the same functions: same interface, the student's numbers, attention in one piece."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.converted_students import LENGTHS, SLOTS, converted
from fakes.students import some_ids, tiny_student

from interlock.contracts.export import PREFILL
from pipeline.coreml import functions
from pipeline.coreml.facts import read_package
from pipeline.coreml.messages import classified
from pipeline.export.forms import PrefillForm, scatter_writer
from runtime.mil import Runner, open_package
from runtime.numerics import psnr_db

# Two packages of one model differ by the rounding of fp16 values: 75 dB here. A wrong slot, mask or position leaves less than 40.
SAME_DB = 60.0


def exported_twin(into: Path) -> tuple[dict[str, Path], tuple[str, ...]]:
    from pipeline.coreml.export_lane import convert_stateful_exported

    made = converted()
    plans = functions.plan_functions(LENGTHS)
    return convert_stateful_exported(made.exported.student, made.exported.signatures, plans, SLOTS, into, lambda _: None)


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], tuple[str, ...]]:
    return exported_twin(tmp_path_factory.mktemp("twin"))


@pytest.mark.export
def test_interface_is_that_of_the_first_lane(twin: tuple[dict[str, Path], tuple[str, ...]]) -> None:
    packages, said = twin
    for name, package in converted().packages.items():
        first, second = (read_package(path).functions["main"] for path in (package, packages[name]))
        assert (second.inputs, second.outputs, second.states, second.opset) == (first.inputs, first.outputs, first.states, first.opset)
        for kind in ("linear", "scaled_dot_product_attention", "gather", "pow", "reduce_mean", "rsqrt", "tile"):
            assert second.operations[kind] == first.operations[kind]
    assert not [message.text for message in classified(said) if message.harmless is None]


@pytest.mark.export
def test_prefill_and_decode_compute_the_students_numbers(twin: tuple[dict[str, Path], tuple[str, ...]]) -> None:
    """Every step of the chain, so every slot that was written is read by a later one."""
    student = converted().exported.student
    ids = some_ids(student.arch, 1, 44).int()
    hidden = student.hidden(ids)[0]
    prefill, decode = (Runner(open_package(twin[0][name]), mode="fp16") for name in ("prefill_32", "decode"))
    state = prefill.new_state("main")
    positions = np.arange(44, dtype=np.int32)
    found = [prefill.run("main", {"input_ids": ids[:, :32].numpy(), "position_ids": positions[:32], "last_index": positions[31:32]}, state)]
    found += [decode.run("main", {"input_ids": ids[:, i : i + 1].numpy(), "position_ids": positions[i : i + 1]}, state) for i in range(32, 44)]
    for name, wanted in (("logits", student.logits(hidden[31:])), ("halt_logits", student.halt(hidden[31:])), ("hidden", hidden[31:])):
        rows = torch.cat([torch.from_numpy(step[name]).float().reshape(1, -1) for step in found])
        assert psnr_db(wanted, rows) > SAME_DB, name


@pytest.mark.export
@pytest.mark.parametrize("lengths", [LENGTHS, (64,)], ids=["enumerated", "one length"])
def test_single_layout_is_that_of_the_first_lane(lengths: tuple[int, ...], tmp_path: Path) -> None:
    from pipeline.coreml.export_lane import convert_single_exported

    made = converted()
    signature = made.exported.signatures[PREFILL]
    convert_single_exported(made.exported.student, signature, lengths, 64, "iOS18", tmp_path / "second.mlpackage", lambda _: None)
    functions.convert_single(made.exported.files[PREFILL], signature, lengths, 64, "iOS18", tmp_path / "first.mlpackage", lambda _: None)
    first, second = (read_package(tmp_path / f"{name}.mlpackage").functions["main"] for name in ("first", "second"))
    assert (second.inputs, second.outputs, second.opset) == (first.inputs, first.outputs, first.opset)
    runner = Runner(open_package(tmp_path / "second.mlpackage"), mode="fp16")
    for length in lengths:
        ids = some_ids(made.exported.student.arch, 1, length).int()
        logits = torch.from_numpy(runner.run("main", {"input_ids": ids.numpy()})["logits"]).float()
        assert psnr_db(made.exported.student(ids).logits, logits) > SAME_DB


def test_scattered_rows_are_those_of_an_assigned_slice() -> None:
    """The writer of torch.export, run by torch itself, leaves the caches of the plain one."""
    student = tiny_student()
    ids, positions = some_ids(student.arch, 1, 5), torch.arange(3, 8, dtype=torch.int32)
    shape = (student.arch.n_layers, student.arch.n_kv_heads, 16, student.arch.d_head)
    plain, scattered = [[torch.full(shape, 0.5) for _ in range(2)] for _ in range(2)]
    expected = student.extend(ids, positions, *plain)
    outputs = PrefillForm(student, scatter_writer).prefill(ids, positions, torch.tensor([4], dtype=torch.int32), *scattered)
    assert torch.equal(outputs[-1][:, 0], expected[:, 4])
    assert all(torch.equal(*pair) for pair in zip(plain, scattered, strict=True))
