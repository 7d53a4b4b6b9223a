"""Random operations by their distribution: moments within five standard errors, ranges, and the same numbers for the same seed."""

from __future__ import annotations

import numpy as np
from fakes.programs import evaluate

COUNT = 20_000
SHAPE = np.array([COUNT], np.int32)


def test_distributions() -> None:
    normal = evaluate("random_normal", out=("fp32",), shape=SHAPE, mean=2.0, stddev=3.0, seed=1)
    assert abs(normal.mean() - 2) < 5 * 3 / COUNT**0.5
    assert abs(normal.std() - 3) < 5 * 3 / (2 * COUNT) ** 0.5
    uniform = evaluate("random_uniform", out=("fp32",), shape=SHAPE, low=-1.0, high=3.0, seed=1)
    assert uniform.min() >= -1
    assert uniform.max() < 3
    assert abs(uniform.mean() - 1) < 5 * 4 / (12 * COUNT) ** 0.5
    coins = evaluate("random_bernoulli", out=("fp32",), shape=SHAPE, prob=0.3, seed=1)
    assert set(np.unique(coins)) == {0, 1}
    assert abs(coins.mean() - 0.3) < 5 * (0.21 / COUNT) ** 0.5
    weights = np.array([[0.2, 0.0, 0.8]], np.float32)
    drawn = evaluate("random_categorical", out=("int32",), x=weights, mode="probs", size=COUNT, seed=1)
    assert set(np.unique(drawn)) == {0, 2}
    assert abs((drawn == 2).mean() - 0.8) < 5 * (0.16 / COUNT) ** 0.5


def test_the_same_seed_gives_the_same_numbers() -> None:
    first, second, other = (evaluate("random_normal", out=("fp32",), shape=SHAPE, seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()
