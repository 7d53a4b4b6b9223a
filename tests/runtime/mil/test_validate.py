"""Rules of a program as a whole, each broken once, on programs in memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes.programs import constant, operation, program, tensor

from runtime.mil.program import Block, Function, NamedType, Operation, Program, StateType
from runtime.mil.validate import MAX_PROBLEMS, violations

ROW = tensor("fp16", 3)
INPUTS, STATES = {"x": ROW}, {"cache": StateType(ROW)}
READ = operation("read_state", {"r": ROW}, input="cache")
WRITE = operation("write_state", {}, input="cache", data="r")


def made(*operations: Operation, outputs: tuple[str, ...] = ("x",)) -> Program:
    return program(list(operations), dict(INPUTS), outputs, dict(STATES))


def branch(inner: Operation, output: str) -> Operation:
    """An operation with one block."""
    return replace(operation("cond", {f"{output}_out": ROW}, pred="x"), blocks=(Block((), (output,), (inner,)),))


def test_a_sound_program_has_no_violations() -> None:
    inner = branch(operation("abs", {"a": ROW}, x="x"), "a")
    again = branch(operation("abs", {"a": ROW}, x="x"), "a")
    other = replace(again, outputs=(NamedType("b_out", ROW),))
    assert violations(made(READ, WRITE, inner, other, operation("abs", {"y": ROW}, x="a_out"), outputs=("y",))) == []


BROKEN: dict[str, tuple[Program, str]] = {
    "undefined": (made(operation("abs", {"y": ROW}, x="no")), "a name that is defined before its use"),
    "used before": (made(operation("abs", {"y": ROW}, x="z"), operation("abs", {"z": ROW}, x="x")), "a name that is defined before its use"),
    "used by itself": (made(operation("abs", {"y": ROW}, x="y")), "a name that is defined before its use"),
    "twice": (made(operation("abs", {"x": ROW}, x="x")), "a name that is not in use"),
    "shadowed in a block": (made(branch(operation("abs", {"x": ROW}, x="x"), "x")), "a name that is not in use"),
    "inside a block only": (made(branch(operation("abs", {"a": ROW}, x="x"), "a"), operation("abs", {"y": ROW}, x="a")), "defined before its use"),
    "output": (made(outputs=("no",)), "a value that is defined"),
    "output is a state": (made(outputs=("cache",)), "a value that is defined"),
    "state as a value": (made(operation("abs", {"y": ROW}, x="cache")), "which read_state makes"),
    "value as a state": (made(operation("read_state", {"y": ROW}, input="x")), "a state of the function"),
    "read as another type": (made(operation("read_state", {"y": tensor("fp32", 3)}, input="cache")), "one value of fp16[3]"),
    "written another type": (made(operation("write_state", {}, input="cache", data=constant(2.0))), "a value of fp16[3]"),
    "nothing written": (made(operation("write_state", {}, input="cache")), "a value of fp16[3]"),
    "constant without a value": (made(Operation("const", {}, {}, (NamedType("c", ROW),), ())), "a value `val`"),
    "constant of another type": (made(Operation("const", {}, {"val": constant(1)}, (NamedType("c", ROW),), ())), "a value of fp16[3]"),
    "no name": (made(operation("abs", {"": ROW}, x="x")), "a name of 1 to"),
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_every_rule_is_reported_with_its_place(name: str) -> None:
    broken, expected = BROKEN[name]
    found = violations(broken)
    assert any(expected in wanted for _, wanted, _ in found), found
    assert all(place.startswith("functions/main") for place, _, _ in found)


def test_an_unknown_opset_is_reported() -> None:
    whole = made()
    function: Function = replace(whole.functions["main"], opset="CoreML4")
    assert violations(replace(whole, functions={"main": function}))[0][0] == "functions/main/opset"


def test_violations_are_counted_only_so_far() -> None:
    assert len(violations(made(*(operation("abs", {f"y{i}": ROW}, x="no") for i in range(500))))) == MAX_PROBLEMS
