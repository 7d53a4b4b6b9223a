"""Elementwise operations against numpy and torch in double."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from fakes.programs import evaluate
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

BINARY: dict[str, Callable[..., Any]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "real_div": np.divide, "floor_div": np.floor_divide, "mod": np.mod, "pow": np.power,
    "maximum": np.maximum, "minimum": np.minimum,
}  # fmt: skip
COMPARED: dict[str, Callable[..., Any]] = {
    "equal": np.equal, "not_equal": np.not_equal, "greater": np.greater, "greater_equal": np.greater_equal, "less": np.less,
    "less_equal": np.less_equal,
}  # fmt: skip
LOGIC: dict[str, Callable[..., Any]] = {"logical_and": np.logical_and, "logical_or": np.logical_or, "logical_xor": np.logical_xor}
UNARY = ("abs", "acos", "asin", "atan", "atanh", "ceil", "cos", "cosh", "erf", "exp", "exp2", "floor", "round", "sign", "sin", "sinh", "sqrt",
         "square", "tan", "tanh")  # fmt: skip
POSITIVE = {"sqrt"}


@pytest.mark.parametrize("name", [*BINARY, *COMPARED, *LOGIC])
@settings(max_examples=15, deadline=None)
@given(shapes=hnp.mutually_broadcastable_shapes(num_shapes=2, min_dims=0, max_dims=4, max_side=3), seed=st.integers(0, 99))
def test_binary_operations_equal_numpy(name: str, shapes: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = (rng.uniform(0.5, 3, shape).astype(np.float32) for shape in shapes.input_shapes)
    if name in LOGIC:
        x, y = x > 1.5, y > 1.5
        np.testing.assert_array_equal(evaluate(name, out=("bool",), x=x, y=y), LOGIC[name](x, y))
    elif name in COMPARED:
        x, y = x.round(), y.round()
        np.testing.assert_array_equal(evaluate(name, out=("bool",), x=x, y=y), COMPARED[name](x, y))
    else:
        np.testing.assert_allclose(evaluate(name, x=x, y=y), BINARY[name](x, y), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["add", "sub", "mul", "floor_div", "mod", "maximum", "minimum"])
def test_binary_operations_of_integers(name: str) -> None:
    x, y = np.array([7, -7, 5, -4], np.int32), np.array([2, 2, -3, -4], np.int32)
    np.testing.assert_array_equal(evaluate(name, x=x, y=y), BINARY[name](x, y))


def test_division_of_integers_is_towards_zero() -> None:
    x, y = np.array([7, -7, 5, -4], np.int32), np.array([2, 2, -3, -4], np.int32)
    assert evaluate("real_div", x=x, y=y).tolist() == [3, -3, -1, 1]


@pytest.mark.parametrize("name", UNARY)
def test_unary_operations_equal_torch_in_double(name: str) -> None:
    x = np.random.default_rng(1).uniform(0.01 if name in POSITIVE else -0.99, 0.99, (3, 1, 5)).astype(np.float32) * (3 if name == "round" else 1)
    expected = getattr(torch, name)(torch.from_numpy(x).double()).numpy()
    np.testing.assert_allclose(evaluate(name, x=x), expected, rtol=1e-5, atol=1e-6)


def test_logical_not_and_identity() -> None:
    x = np.array([True, False])
    assert evaluate("logical_not", x=x).tolist() == [False, True]
    assert evaluate("identity", x=x).tolist() == [True, False]


def test_operations_with_parameters() -> None:
    x = np.random.default_rng(2).uniform(0.1, 4, (2, 3)).astype(np.float32)
    for name, expected in {
        "rsqrt": 1 / np.sqrt(x + 0.5), "inverse": 1 / (x + 0.5), "log": np.log(x + 0.5),
    }.items():  # fmt: skip
        np.testing.assert_allclose(evaluate(name, x=x, epsilon=0.5), expected, rtol=1e-5)
    np.testing.assert_allclose(evaluate("clip", x=x, alpha=1.0, beta=2.0), np.clip(x, 1, 2))
    np.testing.assert_allclose(evaluate("threshold", x=x, alpha=1.0), np.maximum(x, 1))
    np.testing.assert_array_equal(evaluate("select", out=("fp32",), cond=x > 2, a=x, b=-x), np.where(x > 2, x, -x))


@pytest.mark.parametrize(
    ("array", "dtype", "expected"),
    [
        (np.array([1.9, -1.9, 0.0], np.float32), "int32", [1, -1, 0]),
        (np.array([2.0, 0.0, -0.5], np.float32), "bool", [True, False, True]),
        (np.array([3, -4], np.int32), "fp32", [3.0, -4.0]),
        (np.array([300, -3], np.int32), "int16", [300, -3]),
    ],
)
def test_cast(array: np.ndarray[Any, Any], dtype: str, expected: list[Any]) -> None:
    assert evaluate("cast", out=(dtype,), x=array, dtype=dtype).tolist() == expected
