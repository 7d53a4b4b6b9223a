"""Gathering and scattering against numpy and plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes.programs import evaluate

from interlock.errors import ContractError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_equals_numpy(axis: int) -> None:
    x = RNG.normal(0, 1, (3, 4, 5)).astype(np.float32)
    indices = RNG.integers(-x.shape[axis], x.shape[axis], (2, 2)).astype(np.int32)
    np.testing.assert_array_equal(evaluate("gather", x=x, indices=indices, axis=axis), np.take(x, indices, axis))
    along = RNG.integers(0, x.shape[axis], x.shape).astype(np.int32)
    np.testing.assert_array_equal(evaluate("gather_along_axis", x=x, indices=along, axis=axis), np.take_along_axis(x, along, axis))
    pairs = RNG.integers(0, 3, (6, 2)).astype(np.int32)
    np.testing.assert_array_equal(evaluate("gather_nd", x=x, indices=pairs), x[pairs[:, 0], pairs[:, 1]])


def test_gather_by_batch() -> None:
    x = RNG.normal(0, 1, (3, 4, 5)).astype(np.float32)
    indices = RNG.integers(0, 4, (3, 2)).astype(np.int32)
    expected = np.stack([x[batch, indices[batch]] for batch in range(3)])
    np.testing.assert_array_equal(evaluate("gather", x=x, indices=indices, axis=1, batch_dims=1), expected)
    np.testing.assert_array_equal(evaluate("gather_nd", x=x, indices=indices[..., None], batch_dims=1), expected)


def test_a_place_outside_is_refused() -> None:
    with pytest.raises(ContractError, match="a place between 4 and 4 in an axis of 4"):
        evaluate("gather", x=np.zeros((4, 2), np.float32), indices=np.array([4], np.int32))


MODES: dict[str, Any] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "max": np.maximum, "min": np.minimum, "update": lambda _, new: new,
}  # fmt: skip


@pytest.mark.parametrize("mode", list(MODES))
def test_scatter_equals_a_loop(mode: str) -> None:
    data = RNG.uniform(1, 2, (5, 4)).astype(np.float32)
    # updates to one place twice have no order, so `update` gets every place once
    places = np.array([3, 0, 1] if mode == "update" else [3, 0, 3], np.int32)
    updates = RNG.uniform(1, 2, (3, 4)).astype(np.float32)
    expected = data.copy()
    for place, row in zip(places, updates, strict=True):
        expected[place] = MODES[mode](expected[place], row)
    np.testing.assert_allclose(evaluate("scatter", data=data, indices=places, updates=updates, axis=0, mode=mode), expected, rtol=1e-6)
    np.testing.assert_allclose(evaluate("scatter_nd", data=data, indices=places[:, None], updates=updates, mode=mode), expected, rtol=1e-6)
    along = np.repeat(places[:, None], 4, 1)
    np.testing.assert_allclose(evaluate("scatter_along_axis", data=data, indices=along, updates=updates, axis=0, mode=mode), expected, rtol=1e-6)
    flipped = evaluate("scatter", data=data.T.copy(), indices=places, updates=updates.T.copy(), axis=-1, mode=mode)
    np.testing.assert_allclose(flipped, expected.T, rtol=1e-6)
