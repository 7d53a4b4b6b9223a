"""States are written in place only where nobody can tell: every program here is compared with pure functions of numpy."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes.programs import constant, operation, program, tensor

from interlock.errors import ContractError, UsageError
from runtime.mil import Runner
from runtime.mil.execute import Mode
from runtime.mil.inplace import in_place
from runtime.mil.plan import plan_function
from runtime.mil.program import Operation, StateType
from runtime.mil.weights import Weights

KIND = tensor("fp16", 4, 3)
STATE = {"cache": StateType(KIND)}
ROW = tensor("fp16", 1, 3)


def read(name: str) -> Operation:
    return operation("read_state", {name: KIND}, input="cache")


def update(name: str, x: str, row: int, by: str = "row") -> Operation:
    return operation("slice_update", {name: KIND}, x=x, update=by, begin=constant((row, 0)), end=constant((row + 1, 3)))


def write(data: str) -> Operation:
    return operation("write_state", {}, input="cache", data=data)


def run(operations: list[Operation], *outputs: str, mode: Mode = "fp32", state: Any = None) -> tuple[dict[str, Any], Any]:
    """One call with row = 1, 2, 3 on a state that starts at 0, 1, … 11."""
    runner = Runner(program(operations, {"row": ROW}, outputs, dict(STATE)), mode)
    if state is None:
        state = runner.new_state("main")
        state.tensors["cache"].copy_(torch.from_numpy(START))
    return runner.run("main", {"row": np.array([[1, 2, 3]], np.float32)}, state), state


START = np.arange(12, dtype=np.float32).reshape(4, 3)


def changed(*rows: int) -> Any:
    expected = START.copy()
    expected[list(rows)] = [1, 2, 3]
    return expected


def updates_in_place(operations: list[Operation], *outputs: str) -> list[bool]:
    """Whether each slice_update may be in place."""
    made = program(operations, {"row": ROW}, outputs, dict(STATE))
    plan = plan_function(made, made.functions["main"], Weights())
    found = in_place(plan.steps, plan.outputs, ["cache"])
    return [at in found for at, step in enumerate(plan.steps) if step.kind == "slice_update"]


@pytest.mark.parametrize("mode", ["fp32", "fp16"])
def test_a_chain_of_updates_equals_pure_functions(mode: Mode) -> None:
    """What coremltools writes: read, update, write, read, … with views of the later values used."""
    part = operation("slice_by_index", {"part": ROW}, x="r1", begin=constant((1, 0)), end=constant((2, 3)))
    chain = [read("r0"), update("u0", "r0", 1), write("u0"), read("r1"), part, update("u1", "r1", 2, by="part"), write("u1"), read("r2")]
    total = operation("reduce_sum", {"total": tensor("fp16")}, x="r2")
    outputs, state = run([*chain, total], "total", mode=mode)
    expected = changed(1, 2)
    assert outputs["total"] == expected.sum()
    np.testing.assert_array_equal(state.array("cache"), expected)
    # the second update's operand is a view of the state itself: it must be a copy
    assert updates_in_place([*chain, total], "total") == [True, False]


def test_updates_of_unrelated_rows_are_all_in_place() -> None:
    chain = [read("r0"), update("u0", "r0", 1), write("u0"), read("r1"), update("u1", "r1", 3), write("u1"), read("r2")]
    outputs, state = run(chain, "r2")
    np.testing.assert_array_equal(state.array("cache"), changed(1, 3))
    np.testing.assert_array_equal(outputs["r2"], changed(1, 3))
    assert updates_in_place(chain, "r2") == [True, True]


VIEW = operation("slice_by_index", {"view": tensor("fp16", 2, 3)}, x="r0", begin=constant((1, 0)), end=constant((3, 3)))
TURNED = operation("transpose", {"turned": tensor("fp16", 3, 4)}, x="r0", perm=constant((1, 0)))
USED = operation("reduce_sum", {"used": tensor("fp16", 4)}, x="r0", axes=constant((1,)))
CASES: dict[str, tuple[list[Operation], str, Any, Any]] = {
    "the old value is an output": ([read("r0"), update("u", "r0", 1), write("u")], "r0", START, changed(1)),
    "a view of the old value is an output": ([read("r0"), VIEW, update("u", "r0", 1), write("u")], "view", START[1:3], changed(1)),
    "a transposed view is an output": ([read("r0"), TURNED, update("u", "r0", 1), write("u")], "turned", START.T, changed(1)),
    "the old value is used later": ([read("r0"), update("u", "r0", 1), write("u"), USED], "used", START.sum(1), changed(1)),
    "another read of the old value is used later": (
        [read("r0"), read("r1"), update("u", "r1", 1), write("u"), USED], "used", START.sum(1), changed(1),
    ),
    "the state is read before the result is written": (
        [read("r1"), update("u", "r1", 1), read("r0"), write("u"), USED], "used", START.sum(1), changed(1),
    ),
    "the result is never written": ([read("r0"), update("u", "r0", 1)], "u", changed(1), START),
    "the result is an output and the state changes again": (
        [read("r0"), update("u", "r0", 1), write("u"), read("r1"), update("v", "r1", 2), write("v")], "u", changed(1), changed(1, 2),
    ),
    "two updates of one read": (
        [read("r0"), update("u", "r0", 1), update("v", "r0", 2), write("u")], "v", changed(2), changed(1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("mode", ["fp32", "fp16"])
@pytest.mark.parametrize("case", list(CASES))
def test_no_later_value_sees_an_update(case: str, mode: Mode) -> None:
    operations, output, expected, kept = CASES[case]
    outputs, state = run(operations, output, mode=mode)
    np.testing.assert_array_equal(outputs[output], expected)
    np.testing.assert_array_equal(state.array("cache"), kept)


def test_outputs_are_the_callers_own() -> None:
    """Neither changing an output nor the next call changes what the other has."""
    outputs, state = run([read("r0"), update("u", "r0", 1), write("u"), read("r1")], "r1")
    outputs["r1"][:] = 99
    np.testing.assert_array_equal(state.array("cache"), changed(1))
    first, _ = run([read("r0")], "r0", state=state)
    run([read("r0"), update("u", "r0", 2), write("u")], "u", state=state)
    np.testing.assert_array_equal(first["r0"], changed(1))


def test_an_input_that_is_written_to_the_state_stays_the_callers() -> None:
    whole = program([write("row"), read("r0"), update("u", "r0", 1, by="part"), write("u")], {"row": KIND, "part": ROW}, ("u",), dict(STATE))
    runner, given = Runner(whole), START.copy()
    state = runner.new_state("main")
    runner.run("main", {"row": given, "part": np.array([[1, 2, 3]], np.float32)}, state)
    np.testing.assert_array_equal(given, START)
    np.testing.assert_array_equal(state.array("cache"), changed(1))


def test_a_call_that_fails_leaves_a_state_that_is_refused() -> None:
    bad = [read("r0"), update("u", "r0", 1), write("u"), operation("reshape", {"no": ROW}, x="row", shape=constant((7,)))]
    runner = Runner(program(bad, {"row": ROW}, ("no",), dict(STATE)))
    state, given = runner.new_state("main"), {"row": np.zeros((1, 3), np.float32)}
    with pytest.raises(ContractError, match="operands that fit"):
        runner.run("main", given, state)
    with pytest.raises(UsageError, match="a call that failed"):
        runner.run("main", given, state)


def test_a_function_with_states_needs_them() -> None:
    runner = Runner(program([read("r0")], {}, ("r0",), dict(STATE)))
    with pytest.raises(UsageError, match="keeps state"):
        runner.run("main", {})


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="how much memory a process holds is read from Linux")
def test_a_state_takes_memory_as_it_is_written() -> None:
    """64 heads of 1 MB of which each writes one row: 64 pages or a little more, not 64 MB."""
    kind = StateType(tensor("fp16", 64, 4096, 64))
    body = [operation("read_state", {"r": kind.wrapped}, input="cache"), operation("write_state", {}, input="cache", data="r")]
    state = Runner(program(body, {"row": ROW}, ("r",), {"cache": kind})).new_state("main")
    before = resident_bytes()
    state.tensors["cache"][:, 0] = 1
    assert resident_bytes() - before < 8 << 20
    assert state.tensors["cache"].sum() == 64 * 64


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
