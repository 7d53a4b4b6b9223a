"""Intervals of rates and of ratios of means.

Here: the formulas. Not here: what is claimed of an interval (gates.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

RESAMPLES, SEED = 10_000, 0
# Drawn at a time: 8 MB of indices for 1000 items.
AT_ONCE = 1_000


class Interval(NamedTuple):
    """`low` ≤ `measured` ≤ `high`."""

    measured: float
    low: float
    high: float


def wilson(right: int, n: int, confidence: float) -> Interval:
    """The score interval of a rate (Wilson 1927; Brown, Cai and DasGupta 2001). n ≥ 1."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = right / n
    middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    # rounding alone may leave the rate of 0 or n outside
    return Interval(rate, min(max(middle - half, 0.0), rate), max(min(middle + half, 1.0), rate))


def saving(spent: Sequence[float], before: Sequence[float], confidence: float) -> Interval:
    """1 - mean(spent) / mean(before) over the same items, which are resampled as pairs: percentile bootstrap (Efron and Tibshirani 1993, chapter 13),
    the same for the same numbers. Raises ValueError if nothing was spent before."""
    new, old = np.asarray(spent, np.float64), np.asarray(before, np.float64)
    if not old.sum() > 0:
        raise ValueError("nothing was spent before: there is nothing to save")
    random = np.random.default_rng(SEED)
    found = []
    for _ in range(RESAMPLES // AT_ONCE):
        places = random.integers(0, len(new), (AT_ONCE, len(new)))
        found.append(1 - new[places].sum(1) / np.maximum(old[places].sum(1), np.finfo(np.float64).tiny))
    low, high = np.quantile(np.concatenate(found), [(1 - confidence) / 2, (1 + confidence) / 2])
    measured = float(1 - new.sum() / old.sum())
    return Interval(measured, min(float(low), measured), max(float(high), measured))
