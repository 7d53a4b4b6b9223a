"""Every rule of the lint: one program that breaks it, one that does not."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from fakes.programs import constant, operation, program, tensor

from runtime.mil.lint import RULES, lint
from runtime.mil.program import Constant, Feature, NamedType, Operation, Program, StateType

X = {"x": tensor("fp16", 1, 64)}


def const(name: str, value: Constant) -> Operation:
    return Operation("const", {}, {"val": value}, (NamedType(name, value.type),), ())


def one(kind: str, shape: tuple[int, ...] = (1, 64), dtype: str = "fp16", **inputs: object) -> Program:
    return program([operation(kind, {"y": tensor(dtype, *shape)}, **inputs)], dict(X), ("y",))


def plain() -> Program:
    """What no rule speaks of."""
    return one("add", x="x", y="x")


def featured(made: Program, *features: Feature, version: int = 9) -> Program:
    function = made.functions["main"]
    inputs = (*function.inputs, *(NamedType(item.name, tensor("fp16", 1, 64)) for item in features if item.name != "x"))
    changed = replace(function, features={item.name: item for item in features}, inputs=inputs)
    return replace(made, functions={"main": changed}, specification_version=version)


def stateful(made: Program, *shapes: tuple[int, ...]) -> Program:
    states = tuple(NamedType(f"s{at}", StateType(tensor("fp16", *shape))) for at, shape in enumerate(shapes))
    return replace(made, functions={"main": replace(made.functions["main"], states=states)})


def weighted(data: Constant, shape: tuple[int, ...], maker: str, user: str = "linear", **parts: Constant) -> Program:
    """A compressed constant `w` of a shape and what takes it."""
    operations = [const("d", data), *(const(name, value) for name, value in parts.items())]
    key = "indices" if maker == "constexpr_lut_to_dense" else "data"
    operations.append(operation(maker, {"w": tensor("fp16", *shape)}, **{key: "d"}, **{name: name for name in parts}))
    given = {"x": "x", "weight": "w"} if user == "linear" else {"x": "x", "y": "w"}
    operations.append(operation(user, {"y": tensor("fp16", 1, shape[0])}, **given))
    return program(operations, dict(X), ("y",))


def halves(*shape: int) -> Constant:
    return constant(np.ones(shape, np.float16))


def blob(dtype: str, *shape: int) -> Constant:
    size = -(-int(np.prod(shape)) * tensor(dtype, *shape).dtype.bits // 8)
    return Constant(tensor(dtype, *shape), memoryview(bytes(size)), ("@model_path/weights/weight.bin", 64))


def quantised(dtype: str, rows: int, *scale: int, user: str = "linear") -> Program:
    return weighted(blob(dtype, rows, 64), (rows, 64), "constexpr_blockwise_shift_scale", user, scale=halves(*scale))


def palettised(lut: tuple[int, ...], rows: int = 64) -> Program:
    return weighted(blob("uint4", rows, 64), (rows, 64), "constexpr_lut_to_dense", lut=halves(*lut))


def cast_of(value: float) -> Program:
    narrowed = operation("cast", {"d": tensor("fp16")}, x="c", dtype="fp16")
    return program([const("c", constant(value)), narrowed, operation("add", {"y": tensor("fp16", 1, 64)}, x="x", y="d")], dict(X), ("y",))


def attention(batch: int, rank: int = 4) -> Program:
    shape = (batch, *(1,) * (rank - 4), 2, 8, 32)
    kind = tensor("fp16", *shape)
    return program([operation("scaled_dot_product_attention", {"y": kind}, query="x", key="x", value="x")], {"x": kind}, ("y",))


def looked_up(table: tuple[int, ...]) -> Program:
    kind = tensor("fp16", 4, 32) if len(table) == 2 else tensor("fp16", 4)
    gather = operation("gather", {"y": kind}, x="t", indices="i")
    return program([const("t", halves(*table)), gather], {"i": tensor("int32", 4)}, ("y",))


def power(base: float) -> Program:
    return one("pow", x=constant(np.array(base, np.float16)), y="x")


def island(dtype: str) -> Program:
    return program(
        [operation("cast", {"w": tensor(dtype, 1, 64)}, x="x", dtype=dtype), operation("cast", {"y": tensor("fp16", 1, 64)}, x="w", dtype="fp16")],
        dict(X),
        ("y",),
    )


def named(name: str, dtype: str = "fp16") -> Program:
    kind = tensor(dtype, 1, 64)
    return program([operation("identity", {"y": kind}, x=name)], {name: kind}, ("y",))


def masked(value: float) -> Program:
    return one("add", x="x", y=constant(np.array(value, np.float16)))


def reshaped(*shape: int) -> Program:
    return program([operation("reshape", {"y": tensor("fp16", *shape)}, x="x", shape=constant(list(shape)))], dict(X), ("y",))


def norm() -> Program:
    return one("layer_norm", x="x", axes=constant([-1]))


def large(size: int) -> Program:
    """A weight of that many bytes, of which the machine need not have one."""
    made = Constant(tensor("uint8", size), memoryview(mmap.mmap(-1, size)), ("@model_path/w", 64))
    return program([const("w", made), operation("add", {"y": tensor("fp16", 1, 64)}, x="x", y="x")], dict(X), ("y",))


def left_alone(elements: int) -> Program:
    base = quantised("int8", 64, 64, 1)
    weight = const("v", halves(elements // 64, 64))
    more = operation("linear", {"z": tensor("fp16", 1, elements // 64)}, x="x", weight="v")
    block = replace(base.functions["main"].block, operations=(weight, *base.functions["main"].block.operations, more))
    return replace(base, functions={"main": replace(base.functions["main"], block=block)})


def enumerated(count: int) -> Feature:
    return Feature("x", enumerated=tuple((1, size + 1) for size in range(count)))


RANGED, TWO = Feature("z", ranges=((1, 1), (1, 64))), replace(enumerated(3), name="z")
Made = Callable[[], Program]
# rule: (breaks it, does not)
CASES: dict[str, tuple[Made, Made]] = {
    "infinite-constant": (lambda: cast_of(1e9), lambda: cast_of(1e4)),
    "mask-value": (lambda: masked(-60000.0), lambda: masked(-1e4)),
    "fp32-island": (lambda: island("fp32"), lambda: island("fp16")),
    "high-rank": (lambda: reshaped(1, 1, 1, 1, 1, 64), lambda: reshaped(1, 1, 1, 1, 64)),
    "rank-5-attention": (lambda: attention(1, 5), lambda: attention(1, 4)),
    "fused-attention": (lambda: attention(1), lambda: one("softmax", x="x", axis=constant(-1))),
    "batched-attention": (lambda: attention(10), lambda: attention(9)),
    "silu-kept": (lambda: one("silu", x="x"), lambda: one("sigmoid", x="x")),
    "table-lookup": (lambda: looked_up((9, 32)), lambda: looked_up((9,))),
    "power-of-two": (lambda: power(2.0), lambda: power(3.0)),
    "narrow-interface": (lambda: one("slice_by_index", (1, 8), x="x", begin=constant([0, 0]), end=constant([1, 8])), plain),
    "state-dimension": (lambda: stateful(plain(), (1, 48)), lambda: stateful(plain(), (1, 64))),
    "many-states": (lambda: stateful(plain(), (1, 64), (1, 64), (1, 64)), lambda: stateful(plain(), (1, 64), (1, 64))),
    "state": (lambda: stateful(plain(), (1, 64)), plain),
    "range-shape": (lambda: featured(plain(), RANGED), lambda: featured(plain(), Feature("x", ranges=((1, 1), (64, 64))))),
    "mixed-shapes": (lambda: featured(plain(), enumerated(3), RANGED), lambda: featured(plain(), enumerated(3))),
    "enumerated-inputs": (lambda: featured(plain(), enumerated(3), TWO, version=8), lambda: featured(plain(), enumerated(3), TWO)),
    "many-shapes": (lambda: featured(plain(), enumerated(129)), lambda: featured(plain(), enumerated(128))),
    "enumerated-norm": (lambda: featured(norm(), enumerated(3)), norm),
    "input-type": (lambda: named("x", "int64"), lambda: named("x", "int32")),
    "plain-names": (lambda: named("input.1"), lambda: named("input_1")),
    "large-function": (lambda: large(1_100_000_000), lambda: large(400)),
    "wide-linear": (lambda: quantised("int8", 8224, 8224, 1), lambda: quantised("int8", 64, 64, 1)),
    "block-int4": (lambda: quantised("int4", 64, 64, 2), lambda: quantised("int4", 64, 64, 1)),
    "lut-per-row-and-block": (lambda: palettised((64, 2, 16, 1)), lambda: palettised((1, 1, 16, 1))),
    "lut-groups": (lambda: palettised((64, 1, 16, 1)), lambda: palettised((16, 1, 16, 1))),
    "lut-with-state": (lambda: stateful(palettised((1, 1, 16, 1)), (1, 64)), lambda: palettised((1, 1, 16, 1))),
    "compressed-no-weight": (lambda: quantised("int8", 64, 64, 1, user="add"), lambda: quantised("int8", 64, 64, 1)),
    "weight-left-alone": (lambda: left_alone(1 << 14), lambda: left_alone(1 << 12)),
}  # fmt: skip


def broken(made: Program, target: str = "any") -> set[str]:
    return {finding.rule for finding in lint(made, target)}  # type: ignore[arg-type]


def test_every_rule_has_a_case() -> None:
    assert set(CASES) == {rule.id for rule in RULES}


@pytest.mark.parametrize("rule", CASES)
def test_a_rule_finds_what_breaks_it_and_nothing_else(rule: str) -> None:
    breaks, keeps = CASES[rule]
    assert rule in broken(breaks())
    assert rule not in broken(keeps())


def test_a_plain_program_breaks_nothing() -> None:
    assert broken(plain()) == set()


def test_rules_of_one_device_are_silent_for_another() -> None:
    made = attention(10)
    assert "batched-attention" in broken(made, "gpu") and "batched-attention" not in broken(made, "ane")
    assert "fused-attention" in broken(made, "ane") and "fused-attention" not in broken(made, "gpu")


def test_the_worst_comes_first() -> None:
    found = lint(stateful(one("silu", x="x"), (1, 48)), "ane")
    assert [item.severity for item in found] == ["fatal", "perf", "note"]


def test_every_rule_names_its_source_and_a_fix() -> None:
    for rule in RULES:
        assert rule.source.startswith("https://") and rule.fix and rule.targets
