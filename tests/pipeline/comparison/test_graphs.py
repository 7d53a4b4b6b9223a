"""Two ML Programs: what counting shows, what only the wiring shows, and constants as the numbers that they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.programs import constant, tensor

from interlock.errors import ContractError
from pipeline.comparison.graphs import compare_programs
from pipeline.comparison.records import Found
from runtime.mil.program import Block, Constant, Function, ListType, NamedType, Operation, Program

X = tensor("fp32", 2, 2)
WEIGHT = np.array([[1.0, 2.0], [3.0, -4.0]], np.float32)


def const(name: str, value: Any) -> Operation:
    made = constant(value)
    return Operation("const", {}, {"val": made}, (NamedType(name, made.type),), ())


def op(kind: str, name: str, **inputs: Any) -> Operation:
    return Operation(kind, {key: (value,) for key, value in inputs.items()}, {}, (NamedType(name, X),), ())


def program(*operations: Operation, output: str = "y", functions: tuple[str, ...] = ("main",)) -> Program:
    inputs = (NamedType("x", X), NamedType("z", X))
    made = {name: Function(name, "CoreML8", inputs, (), Block((), (output,), operations), {}) for name in functions}
    return Program(Path("memory.mlpackage"), 9, made, functions[0])


def plain(weight: Any = WEIGHT, *, kind: str = "add", takes: str = "x") -> Program:
    return program(const("w", weight), op("mul", "h", x=takes, y="w"), op(kind, "y", x="h", y="z"))


def compare(a: Program, b: Program, bound: float = 0.0) -> Found:
    return compare_programs("part", a, b, bound, lambda name: None)


def test_equal_programs_have_no_difference() -> None:
    found = compare(plain(), plain())
    assert (found.counts, found.structure, found.tensors, found.compared) == ((), (), (), 1)


def test_another_operation_is_counted_and_named() -> None:
    found = compare(plain(), plain(kind="sub"))
    assert [(item.operation, item.a, item.b) for item in found.counts] == [("add", 1, 0), ("sub", 0, 1)]
    assert [(item.place, item.a, item.b) for item in found.structure] == [("`y`", "add", "sub")]


def test_wiring_that_no_count_shows_is_found() -> None:
    found = compare(plain(), plain(takes="z"))
    assert found.counts == () and [(item.place, item.a, item.b) for item in found.structure] == [("mul `h`, x", "`x`", "`z`")]


def test_another_output_is_found() -> None:
    shared = (const("w", WEIGHT), op("mul", "h", x="x", y="w"), op("add", "y", x="h", y="z"))
    assert [item.place for item in compare(program(*shared), program(*shared, output="h")).structure] == ["output `y`", "output `h`"]


def test_a_constant_is_compared_by_value_whatever_its_name() -> None:
    renamed = program(const("v", WEIGHT), op("mul", "h", x="x", y="v"), op("add", "y", x="h", y="z"))
    assert compare(plain(), renamed) == compare(plain(), plain())
    wrong = WEIGHT.copy()
    wrong[1, 0] = 3.5
    (item,) = compare(plain(), plain(wrong)).tensors
    assert (item.name, item.max_abs, item.within) == ("w", 0.5, False)
    assert compare(plain(), plain(wrong), bound=0.2).tensors[0].within


def test_a_compressed_weight_is_the_numbers_that_it_stands_for() -> None:
    data, scale = np.array([[1, 2], [3, -4]], np.int8), np.ones((1, 1), np.float32)
    compressed = packed(data, scale)
    found = compare(plain(), compressed)
    (item,) = found.tensors
    assert item.within and item.max_abs == 0 and (item.form_a, item.form_b) == ("fp32", "int8 blockwise_shift_scale")
    assert found.structure == () and all(count.storage for count in found.counts)
    assert not compare(plain(WEIGHT + 1), compressed).tensors[0].within


def test_a_missing_function_is_named() -> None:
    shared = (const("w", WEIGHT), op("mul", "y", x="x", y="w"))
    found = compare(program(*shared, functions=("main", "decode")), program(*shared))
    assert [(item.function, item.place, item.a, item.b) for item in found.structure] == [("decode", "function", "present", "none")]
    assert found.compared == 1


def test_added_and_missing_operations_are_told_apart() -> None:
    longer = program(const("w", WEIGHT), op("mul", "h", x="x", y="w"), op("add", "y", x="h", y="z"), op("relu", "r", x="y"), output="y")
    (more,) = compare(longer, plain()).structure
    (less,) = compare(plain(), longer).structure
    assert (more.a, more.b) == ("relu `r`", "none") and (less.a, less.b) == ("none", "relu `r`")


def test_a_constant_against_a_value_of_the_run_is_no_equal_wiring() -> None:
    (item,) = compare(plain(), program(const("w", WEIGHT), op("mul", "h", x="x", y="z"), op("add", "y", x="h", y="z"))).structure
    assert (item.a, item.b) == ("a constant", "a value of the run")


def test_texts_and_lists_are_compared_by_content() -> None:
    def listed(*values: float, text: str = "valid") -> Program:
        kind = ListType(tensor("fp32"), len(values))
        parts = tuple(constant(value) for value in values)
        held = Operation("const", {}, {"val": Constant(kind, parts)}, (NamedType("l", kind),), ())
        return program(held, const("mode", text), op("any", "y", x="x", parts="l", mode="mode"))

    assert compare(listed(1.0, 2.0), listed(1.0, 2.0)).structure == ()
    assert [item.place for item in compare(listed(1.0, 2.0), listed(1.0, 3.0)).structure] == ["`l`"]
    (item,) = compare(listed(1.0), listed(1.0, text="same")).structure
    assert (item.a, item.b) == ("['valid']", "['same']")


def packed(data: Any, scale: Any) -> Program:
    made = Operation("constexpr_blockwise_shift_scale", {"data": ("d",), "scale": ("s",)}, {}, (NamedType("w", X),), ())
    return program(const("d", data), const("s", scale), made, op("mul", "h", x="x", y="w"), op("add", "y", x="h", y="z"))


def test_a_compressed_weight_whose_parts_do_not_fit_is_refused_by_name() -> None:
    with pytest.raises(ContractError, match="do not divide") as refused:
        compare(plain(), packed(np.ones((2, 2), np.int8), np.ones((3, 1), np.float32)))
    assert refused.value.violations[0].where == "`w`"
