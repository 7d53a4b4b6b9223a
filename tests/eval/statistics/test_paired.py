"""Paired tests and intervals against scipy, published values, and the share of times in which they are wrong."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from eval.statistics.clusters import quantile_interval, ratio_interval
from eval.statistics.paired import difference, flips, holm, mcnemar, resolvable

pytestmark = pytest.mark.export  # scipy is there


def test_mcnemar_is_the_one_sided_sign_test() -> None:
    from scipy.stats import binomtest

    chance = random.Random(1)
    for _ in range(300):
        n = chance.randrange(1, 60)
        better, worse = ([chance.random() < 0.7 for _ in range(n)] for _ in range(2))
        b = sum(x and not y for x, y in zip(better, worse, strict=True))
        c = sum(y and not x for x, y in zip(better, worse, strict=True))
        expected = binomtest(b, b + c, alternative="greater").pvalue if b + c else 1.0
        assert mcnemar(better, worse) == pytest.approx(expected, abs=1e-12)


def test_tangos_interval_is_where_the_score_test_turns() -> None:
    """The variance under each difference by numerical maximisation of the likelihood, which the closed form solves: 400 generated tables."""
    from scipy.optimize import minimize_scalar
    from scipy.stats import norm

    def statistic(b: int, c: int, n: int, delta: float) -> float:
        def unlikely(q: float) -> float:
            cells = ((b, q + delta), (c, q), (n - b - c, 1 - 2 * q - delta))
            return -sum(count * math.log(max(p, 1e-300)) for count, p in cells if count)

        low, high = max(0.0, -delta), (1 - delta) / 2
        q = minimize_scalar(unlikely, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
        return (b - c - n * delta) / math.sqrt(n * (2 * q + delta * (1 - delta)))

    chance = random.Random(2)
    for _ in range(400):
        n = chance.randrange(5, 300)
        b = chance.randrange(0, n // 2)
        c = chance.randrange(0, n - b)
        confidence = chance.choice([0.9, 0.95, 0.99])
        z = norm.ppf(0.5 + confidence / 2)
        found = difference(b, c, n, confidence)
        assert found.low <= found.measured == (b - c) / n <= found.high
        for end, sign in ((found.low, 1), (found.high, -1)):
            if abs(end) < 0.999:
                # bounded minimisation stops near the border, where the likelihood has its maximum if a cell is empty
                assert statistic(b, c, n, end) == pytest.approx(sign * z, abs=2e-3), (b, c, n, confidence)


@pytest.mark.parametrize("n", [15, 60, 200, 2000])
def test_without_any_flip_the_margin_is_the_closed_form(n: int) -> None:
    assert resolvable(n, 0.95) == pytest.approx(1.959964**2 / (n + 1.959964**2), abs=1e-6)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """60 items, 8 % lost, 4 % gained: 3,000 draws have a standard error of 0.4 %."""
    random_ = np.random.default_rng(3)
    tables = random_.multinomial(60, [0.04, 0.08, 0.88], size=3000)
    inside = np.mean([(found := difference(int(b), int(c), 60, 0.95)).low <= -0.04 <= found.high for b, c, _ in tables])
    assert 0.935 <= inside <= 0.985


def test_flips_are_scipys_permutation_test() -> None:
    from scipy.stats import permutation_test

    random_ = np.random.default_rng(5)
    for shift in (-0.4, -0.2, 0.0, 0.3):
        values = random_.normal(shift, 1.0, 40)
        expected = permutation_test((values,), np.mean, permutation_type="samples", alternative="less", n_resamples=20_000, random_state=1).pvalue
        assert flips(values.tolist()) == pytest.approx(expected, abs=0.015)
    assert flips([0.0, 0.0]) == 1.0 and flips([-1.0] * 12) == pytest.approx(2**-12, abs=5e-4)


def test_holm_is_the_published_procedure() -> None:
    """Values of Wright 1992 (Adjusted p-values for simultaneous inference), and on drawn ones the step-down rule itself."""
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    chance = random.Random(6)
    for _ in range(300):
        drawn = {str(k): chance.random() ** 3 for k in range(chance.randrange(1, 9))}
        for alpha in (0.01, 0.05, 0.2):
            left, rejected = sorted(drawn, key=drawn.__getitem__), set()
            while left and drawn[left[0]] <= alpha / len(left):
                rejected.add(left.pop(0))
            assert {name for name, p in holm(drawn).items() if p <= alpha} == rejected


def test_items_of_one_template_are_not_taken_for_independent_ones() -> None:
    """50 templates of 10 items whose rates differ: the interval that ignores them misses the truth far more often. 80 draws."""
    random_ = np.random.default_rng(8)
    names = [str(k // 10) for k in range(500)]
    missed = {"templates": 0, "items": 0}
    for _ in range(80):
        rates = random_.beta(0.7, 0.7, 50)
        right = (random_.random(500) < np.repeat(rates, 10)).astype(float)
        for kind, clusters in (("templates", names), ("items", [str(k) for k in range(500)])):
            low, high = ratio_interval(clusters, right.tolist(), [1.0] * 500)
            missed[kind] += not low <= 0.5 <= high
    assert missed["templates"] <= 12 and missed["items"] > 15, missed


def test_a_quantile_of_lists_is_scipys_bootstrap_where_a_list_has_one_value() -> None:
    from scipy.stats import bootstrap

    values = np.random.default_rng(9).exponential(1.0, 200)
    expected = bootstrap((values,), lambda x, axis=-1: np.quantile(x, 0.9, axis=axis, method="inverted_cdf"), vectorized=True, method="percentile",
                         n_resamples=4000, random_state=1).confidence_interval  # fmt: skip
    low, high = quantile_interval([np.array([one]) for one in values], 0.9)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=(expected.high - expected.low) / 8)
