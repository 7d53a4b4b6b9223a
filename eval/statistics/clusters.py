"""Intervals where items are no independent draws: those that share a template, a document or a tool are resampled together.

Here: the bootstrap over clusters. Not here: rates of independent items (intervals.py), what is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000

Interval = tuple[float, float]


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
