"""Slices against numpy's own indexing, over random begins, ends, strides and masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes.programs import evaluate
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.errors import ContractError


@st.composite
def parts(draw: st.DrawFn) -> tuple[Any, dict[str, Any], tuple[Any, ...]]:
    """An array, the options of a slice of it and what numpy is asked for the same."""
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    options: dict[str, list[Any]] = {name: [] for name in ("begin", "end", "stride", "begin_mask", "end_mask", "squeeze_mask")}
    index: list[Any] = []
    for size in shape:
        squeeze, step = draw(st.booleans()), draw(st.sampled_from([1, 1, 2, 3, -1, -2]))
        begin, end = draw(st.integers(-size, size - 1)), draw(st.integers(-size, size))
        masks = (draw(st.booleans()) and not squeeze, draw(st.booleans()), squeeze)
        for name, value in zip(options, (begin, end, 1 if squeeze else step, *masks), strict=True):
            options[name].append(value)
        index.append(begin if squeeze else slice(None if masks[0] else begin, None if masks[1] else end, step))
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return x, {name: tuple(value) for name, value in options.items()}, tuple(index)


@settings(max_examples=150, deadline=None)
@given(part=parts())
def test_slice_by_index_equals_numpy(part: tuple[Any, dict[str, Any], tuple[Any, ...]]) -> None:
    x, options, index = part
    np.testing.assert_array_equal(evaluate("slice_by_index", x=x, **options), x[index])


@settings(max_examples=150, deadline=None)
@given(part=parts())
def test_slice_update_equals_numpy(part: tuple[Any, dict[str, Any], tuple[Any, ...]]) -> None:
    x, options, index = part
    update = -1 - np.arange(x[index].size, dtype=np.float32).reshape(x[index].shape)
    expected = x.copy()
    expected[index] = update
    np.testing.assert_array_equal(evaluate("slice_update", x=x, update=update, **options), expected)


def test_begin_and_end_of_the_run() -> None:
    x, begin, end = np.arange(10, dtype=np.float32), np.array([2], np.int32), np.array([5], np.int32)
    assert evaluate("slice_by_index", out=("fp32",), x=x, begin=begin, end=end).tolist() == [2, 3, 4]


def test_slice_by_size() -> None:
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.testing.assert_array_equal(evaluate("slice_by_size", x=x, begin=(0, 1, 2), size=(2, -1, 1)), x[:, 1:, 2:3])


def test_an_update_that_does_not_fit_is_refused() -> None:
    x, update = np.zeros(4, np.float32), np.zeros(2, np.float32)
    with pytest.raises(ContractError, match="an update of shape"):
        evaluate("slice_update", x=x, update=update, begin=(3,), end=(5,))
