"""Reductions against numpy, over every set of axes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from fakes.programs import evaluate

REDUCTIONS: dict[str, Callable[..., Any]] = {
    "reduce_mean": np.mean, "reduce_sum": np.sum, "reduce_max": np.max, "reduce_min": np.min, "reduce_prod": np.prod,
    "reduce_sum_square": lambda x, **o: np.sum(x * x, **o), "reduce_l1_norm": lambda x, **o: np.sum(np.abs(x), **o),
    "reduce_l2_norm": lambda x, **o: np.sqrt(np.sum(x * x, **o)), "reduce_log_sum": lambda x, **o: np.log(np.sum(x, **o)),
    "reduce_log_sum_exp": lambda x, **o: np.log(np.sum(np.exp(x), **o)),
}  # fmt: skip


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("name", list(REDUCTIONS))
def test_reductions_equal_numpy(name: str, keep: bool) -> None:
    x = np.random.default_rng(0).uniform(0.5, 2, (2, 3, 4)).astype(np.float32)
    for count in (1, 2, 3):
        for axes in combinations((0, -2, 2), count):
            expected = REDUCTIONS[name](x.astype(np.float64), axis=axes, keepdims=keep)
            np.testing.assert_allclose(evaluate(name, x=x, axes=axes, keep_dims=keep), expected, rtol=1e-5)
    np.testing.assert_allclose(evaluate(name, x=x), REDUCTIONS[name](x.astype(np.float64), axis=None), rtol=1e-5)


@pytest.mark.parametrize("axis", [0, -1])
def test_places_of_the_extremes(axis: int) -> None:
    x = np.random.default_rng(0).integers(0, 3, (4, 5)).astype(np.float32)
    np.testing.assert_array_equal(evaluate("reduce_argmax", out=("int32",), x=x, axis=axis), x.argmax(axis))
    np.testing.assert_array_equal(evaluate("reduce_argmin", out=("int32",), x=x, axis=axis, keep_dims=True), np.expand_dims(x.argmin(axis), axis))


def test_cumsum() -> None:
    x = np.arange(1, 7, dtype=np.int32).reshape(2, 3)
    assert evaluate("cumsum", x=x, axis=1).tolist() == [[1, 3, 6], [4, 9, 15]]
    assert evaluate("cumsum", x=x, axis=1, exclusive=True).tolist() == [[0, 1, 3], [0, 4, 9]]
    assert evaluate("cumsum", x=x, axis=-1, reverse=True).tolist() == [[6, 5, 3], [15, 11, 6]]
    assert evaluate("cumsum", x=x, axis=0, exclusive=True, reverse=True).tolist() == [[4, 5, 6], [0, 0, 0]]


def test_argsort_and_topk() -> None:
    x = np.array([[3, 1, 2, 1], [0, 5, 5, 4]], np.float32)
    assert evaluate("argsort", out=("int32",), x=x, axis=-1, ascending=True).tolist() == [[1, 3, 2, 0], [0, 3, 1, 2]]
    values, places = evaluate("topk", out=("fp32", "int32"), x=x, k=2, axis=1)
    assert (values.tolist(), places.tolist()) == ([[3, 2], [5, 5]], [[0, 2], [1, 2]])
    values, places = evaluate("topk", out=("fp32", "int32"), x=x, k=1, axis=0, ascending=True)
    assert (values.tolist(), places.tolist()) == ([[0, 1, 2, 1]], [[1, 0, 0, 0]])
