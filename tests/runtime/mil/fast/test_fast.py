"""The fast mode against the verifying one: what is rewritten, what is not, and how far results may move.

Error model: fp32 in another order. A result of n operations on values of size s differs by about n · 2^-24 · s; the bounds here leave two orders
of magnitude for sums of up to 200 terms. Weights multiplied from blocks are off by their declared rounding to fp16, 2^-11 of each weight, and
by activations of 16 bits (runtime/kernels/products.py), which is less.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes.programs import constant, operation, program, tensor

from runtime.kernels import load
from runtime.mil import Program, Runner
from runtime.mil.program import BY_NAME, Constant, NamedType, Operation, TensorType

D = 32
X = tensor("fp16", 1, 1, D)
RANDOM = np.random.default_rng(5)


def kinds(made: Program) -> list[str]:
    return [instruction.step.kind for instruction in Runner(made, "fast")._plan(made.functions["main"]).compiled.code.instructions]


def assert_close(made: Program, inputs: dict[str, Any], bound: float = 1e-5) -> None:
    """In units of the largest value of each output."""
    expected, found = (Runner(made, mode).run("main", inputs) for mode in ("fp32", "fast"))
    for name, wanted in expected.items():
        assert found[name].dtype == wanted.dtype
        assert np.abs(found[name] - wanted).max() <= bound * np.abs(wanted).max(), name


def norm(outputs: tuple[str, ...] = ("y",), length: int = 1, epsilon: float = 1e-12) -> Program:
    """As converters write it: up to fp32, x · rsqrt(mean(x²) + 1e-5), down to fp16, by γ."""
    wide, one, kind = tensor("fp32", 1, length, D), tensor("fp32", 1, length, 1), tensor("fp16", 1, length, D)
    steps = [
        operation("cast", {"w": wide}, x="x", dtype=constant("fp32")),
        operation("pow", {"sq": wide}, x="w", y=constant(np.float32(2))),
        operation("reduce_mean", {"mean": one}, x="sq", axes=constant((-1,)), keep_dims=constant(True)),
        operation("add", {"more": one}, x="mean", y=constant(np.float32(1e-5))),
        operation("rsqrt", {"root": one}, x="more", epsilon=constant(epsilon)),
        operation("mul", {"normed": wide}, x="w", y="root"),
        operation("cast", {"half": kind}, x="normed", dtype=constant("fp16")),
        operation("mul", {"y": kind}, x=constant(RANDOM.normal(size=D).astype(np.float16)), y="half"),
    ]
    return program([operation("add", {"x": kind}, x="given", y="given"), *steps], {"given": kind}, outputs)


@pytest.mark.parametrize("length", [1, 7])
def test_a_norm_is_one_step(length: int) -> None:
    made = norm(length=length)
    assert kinds(made) == ["add", "rms_norm"]
    assert_close(made, {"given": 300 * RANDOM.normal(size=(1, length, D)).astype(np.float32)})
    assert np.isfinite(Runner(made, "fast").run("main", {"given": np.zeros((1, length, D), np.float32)})["y"]).all()


def test_a_norm_is_left_alone_where_its_values_are_wanted_or_it_is_another() -> None:
    assert "rms_norm" in kinds(norm(("y", "mean")))  # the mean is computed for itself, beside the norm
    assert_close(norm(("y", "mean")), {"given": RANDOM.normal(size=(1, 1, D)).astype(np.float32)})
    other = norm(epsilon=0.5)
    assert "rms_norm" not in kinds(other)
    assert_close(other, {"given": RANDOM.normal(size=(1, 1, D)).astype(np.float32)})


def rotation(swapped: bool = False) -> Program:
    """[a·c - b·s, b·c + a·s] of 3 heads at 2 positions; swapped: another formula, which is no rotation."""
    whole, half, table = tensor("fp16", 1, 3, 2, D), tensor("fp16", 1, 3, 2, D // 2), tensor("fp16", 2, D // 2)
    begins, ends = ((0, 0, 0, 0), (0, 0, 0, D // 2)), ((1, 3, 2, D // 2), (1, 3, 2, D))
    steps = [
        operation("add", {"x": whole}, x="given", y="given"),
        operation("mul", {"c": table}, x="cos", y="cos"),
        operation("mul", {"s": table}, x="sin", y="sin"),
        *(
            operation("slice_by_index", {name: half}, x="x", begin=constant(b), end=constant(e))
            for name, b, e in zip("ab", begins, ends, strict=True)
        ),
        operation("mul", {"ac": half}, x="a", y="c"),
        operation("mul", {"bs": half}, x="s", y="b"),
        operation("mul", {"bc": half}, x="b", y="s" if swapped else "c"),
        operation("mul", {"as": half}, x="a", y="c" if swapped else "s"),
        operation("sub", {"first": half}, x="ac", y="bs"),
        operation("add", {"second": half}, x="bc", y="as"),
        operation("concat", {"y": whole}, values=("first", "second"), axis=constant(-1)),
    ]
    return program(steps, {"given": whole, "cos": table, "sin": table}, ("y",))


@pytest.mark.parametrize("swapped", [False, True])
def test_a_rotation_is_recognised_and_nothing_else(swapped: bool) -> None:
    made = rotation(swapped)
    assert ("rope" in kinds(made)) is not swapped
    angles = RANDOM.normal(size=(2, D // 2))
    tables = {"cos": np.cos(angles).astype(np.float32), "sin": np.sin(angles).astype(np.float32)}
    assert_close(made, {"given": RANDOM.normal(size=(1, 3, 2, D)).astype(np.float32), **tables})


def products(weights: list[Any], made: list[Operation], length: int = 1, bias: float = 0.0) -> Program:
    """Linear operations of one value."""
    steps = [operation("add", {"x": tensor("fp16", 1, length, D)}, x="given", y="given")]
    for at, weight in enumerate(weights):
        zeros = constant(np.full(48, bias, np.float16))
        steps.append(operation("linear", {f"y{at}": tensor("fp16", 1, length, 48)}, x="x", weight=weight, bias=zeros))
    return program([*made, *steps], {"given": tensor("fp16", 1, length, D)}, tuple(f"y{at}" for at in range(len(weights))))


@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize("bias", [0.0, 0.5])
def test_products_of_one_value_are_one_product(length: int, bias: float) -> None:
    made = products([constant(RANDOM.normal(size=(48, D)).astype(np.float16)) for _ in range(3)], [], length, bias)
    assert kinds(made).count("linear") == 1
    assert_close(made, {"given": RANDOM.normal(size=(1, length, D)).astype(np.float32)})


def blocks(name: str, dtype: str, width: int, offset: str | None) -> Operation:
    """scale · (code - offset) for [48, D] in blocks of `width` columns; a code per byte is packed by the format's own rule."""
    bits, count = BY_NAME[dtype].bits, D // width
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if dtype.startswith("int") else (0, (1 << bits) - 1)
    codes = RANDOM.integers(low, high + 1, size=(48, D))
    raw = (codes & ((1 << bits) - 1)).astype(np.uint8).reshape(-1)
    packed = raw if bits == 8 else (raw[::2] | raw[1::2] << 4).astype(np.uint8)
    attributes = {
        "data": Constant(TensorType(BY_NAME[dtype], (48, D)), memoryview(packed.tobytes())),
        "scale": constant(RANDOM.uniform(0.01, 0.02, size=(48, count)).astype(np.float16)),
    }
    if offset == "fp16":
        attributes["offset"] = constant(RANDOM.normal(size=(48, count)).astype(np.float16))
    inputs = {key: (value,) for key, value in attributes.items()}
    return Operation("constexpr_blockwise_shift_scale", inputs, {}, (NamedType(name, tensor("fp16", 48, D)),), ())


@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize(("dtype", "width", "offset"), [("int8", D, None), ("int4", 16, None), ("uint4", 16, "fp16"), ("int4", D, "fp16")])
def test_blocks_are_multiplied_as_they_are_stored(dtype: str, width: int, offset: str | None, length: int) -> None:
    made = products(["w0", "w1"], [blocks("w0", dtype, width, offset), blocks("w1", dtype, width, offset)], length)
    assert_close(made, {"given": RANDOM.normal(size=(1, length, D)).astype(np.float32)}, bound=2**-10)
    runner = Runner(made, "fast")
    runner.plan("main")
    assert runner.weight_bytes < (2 * 48 * D * 4 if load() is None else 48 * D * 4)


def test_weights_of_two_forms_stay_two_products() -> None:
    made = products(["w0", "w1"], [blocks("w0", "int8", D, None), blocks("w1", "int4", 16, None)])
    assert kinds(made).count("linear") == 2
    assert_close(made, {"given": RANDOM.normal(size=(1, 1, D)).astype(np.float32)}, bound=2**-10)


def test_a_table_is_read_where_its_product_is() -> None:
    """A tied embedding: rows by gather, products by linear, one copy."""
    steps = [operation("gather", {"x": tensor("fp16", 1, D)}, x="w", indices="ids", axis=constant(0)),
             operation("linear", {"y": tensor("fp16", 1, 48)}, x="x", weight="w")]  # fmt: skip
    made = program([blocks("w", "int8", D, None), *steps], {"ids": tensor("int32", 1)}, ("x", "y"))
    assert_close(made, {"ids": np.array([7], np.int32)}, bound=2**-10)
    runner = Runner(made, "fast")
    runner.plan("main")
    if load() is not None:
        assert runner.weight_bytes < 2 * 48 * D


def test_what_multiplies_is_said() -> None:
    (note,) = Runner(norm(), "fast").notes
    assert note.startswith("packed weights" if load() else "weights widened to fp32")
    assert Runner(norm()).notes == ()
