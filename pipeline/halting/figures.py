"""Rates and scores with their intervals.

Here: closed forms and resampling. Not here: what is counted (threshold.py), how it is shown (benchmarks/halting.py).
Answers that share a template are no independent draws: sums are resampled by template.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]

Z95 = 1.959963984540054
RESAMPLES = 10_000

Interval = tuple[float, float]


def wilson(count: int, total: int) -> Interval:
    """95 % interval of a rate. Source: Wilson 1927; coverage 0.966 at p = .95, n = 60."""
    share, squared = count / total, Z95 * Z95
    half = Z95 * math.sqrt((share * (1 - share) + squared / 4 / total) / total)
    return (share + squared / 2 / total - half) / (1 + squared / total), (share + squared / 2 / total + half) / (1 + squared / total)


def auc(scores: NDArray[np.float64], truth: Bools) -> float:
    """The probability that a complete place scores above an incomplete one, ties half: Mann-Whitney's U over n·m. NaN where one kind is missing."""
    positive, negative = int(truth.sum()), int((~truth).sum())
    if not positive or not negative:
        return math.nan
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[truth].sum() - positive * (positive + 1) / 2) / (positive * negative))


def brier(probability: NDArray[np.float64], truth: Bools) -> float:
    """Mean squared distance of a probability from what came true."""
    return float(np.mean((probability - truth) ** 2))


def reliability(probability: NDArray[np.float64], truth: Bools, bins: int = 10) -> list[tuple[int, float, float]]:
    """Per bin of equal width that is not empty: how many, mean probability, share that came true."""
    index = np.minimum((probability * bins).astype(int), bins - 1)
    found = [(index == i) for i in range(bins)]
    return [(int(here.sum()), float(probability[here].mean()), float(truth[here].mean())) for here in found if here.any()]


def ece(probability: NDArray[np.float64], truth: Bools) -> float:
    """Expected calibration error: mean distance of both means of `reliability`, by how many."""
    return sum(count * abs(said - true) for count, said, true in reliability(probability, truth)) / len(truth)


def by_cluster(clusters: Sequence[str], statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]], seed: int = 0) -> Interval:
    """95 % percentile interval of a statistic over resampled clusters.

    statistic: counts [R, K] of how often each of the K clusters, in order of first appearance, was drawn → values [R].
    """
    names = list(dict.fromkeys(clusters))
    chance = np.random.default_rng(seed)
    drawn = chance.multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES)
    values = statistic(drawn)
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def ratio_interval(clusters: Sequence[str], above: Sequence[float], below: Sequence[float]) -> Interval:
    """Interval of Σ above / Σ below over clusters; for a paired difference `above` holds differences."""
    order = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    sums = np.zeros((2, len(order)))
    for cluster, a, b in zip(clusters, above, below, strict=True):
        sums[:, order[cluster]] += a, b

    def ratio(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        top, bottom = drawn @ sums[0], drawn @ sums[1]
        ratios: NDArray[np.float64] = np.divide(top, bottom, out=np.full(len(drawn), np.nan), where=bottom > 0)
        return ratios

    return by_cluster(clusters, ratio)
