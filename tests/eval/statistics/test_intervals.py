"""Intervals against scipy's, and the properties that a gate relies on."""

from __future__ import annotations

import numpy as np
import pytest

from eval.statistics.intervals import saving, wilson

pytestmark = pytest.mark.export  # scipy is there


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (15, 15), (60, 60), (95, 100), (294, 300), (7, 1000), (500, 1000)])
def test_wilson_is_scipys(right: int, n: int, confidence: float) -> None:
    from scipy.stats import binomtest

    expected = binomtest(right, n).proportion_ci(confidence, method="wilson")
    found = wilson(right, n, confidence)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.low <= found.measured == right / n <= found.high


def pairs(n: int) -> tuple[list[float], list[float]]:
    random = np.random.default_rng(5)
    old = random.integers(8, 30, n)
    return (old * random.uniform(0.3, 0.8, n)).tolist(), old.tolist()


def test_a_saving_is_the_paired_percentile_bootstrap() -> None:
    """Quantiles of 10,000 resamples have a standard error of about 1.5 % of the interval here: a tenth of it is far beyond chance."""
    from scipy.stats import bootstrap

    new, old = pairs(120)
    expected = bootstrap((new, old), lambda a, b, axis=-1: 1 - a.mean(axis) / b.mean(axis), paired=True, vectorized=True, method="percentile",
                         n_resamples=10_000, random_state=1).confidence_interval  # fmt: skip
    found = saving(new, old, 0.95)
    width = expected.high - expected.low
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=width / 10)
    assert found.measured == pytest.approx(1 - sum(new) / sum(old))
    assert found == saving(new, old, 0.95)


def test_pairing_is_what_makes_it_narrow() -> None:
    """A constant share of very different items is known exactly; the same numbers as strangers are not."""
    _, old = pairs(50)
    half = [one / 2 for one in old]
    found = saving(half, old, 0.95)
    assert found.high - found.low < 1e-9 and found.measured == pytest.approx(0.5)
    strangers = saving(half[::-1], old, 0.95)
    assert strangers.high - strangers.low > 0.05


def test_nothing_can_be_saved_of_nothing() -> None:
    with pytest.raises(ValueError, match="nothing"):
        saving([0.0], [0.0], 0.95)
