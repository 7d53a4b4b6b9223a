"""Intervals where items are no independent draws: those that share a template, a document or a tool are resampled together.

Here: the bootstrap over clusters. Not here: rates of independent items (intervals.py), what is counted.
Source: Davison and Hinkley 1997, section 3.8 (resampling of whole clusters), percentile interval, the same for the same numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
# A quantile of pooled lists is sorted anew for each resample.
QUANTILE_RESAMPLES = 2_000

Interval = tuple[float, float]


def by_cluster(
    clusters: Sequence[str], statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]], confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Percentile interval of a statistic over resampled clusters.

    statistic: counts [R, K] of how often each of the K clusters, in order of first appearance, was drawn → values [R].
    """
    values = statistic(_drawn(len(set(clusters)), RESAMPLES, seed))
    low, high = np.nanpercentile(values, [50 - 50 * confidence, 50 + 50 * confidence])
    return float(low), float(high)


def ratio_interval(clusters: Sequence[str], above: Sequence[float], below: Sequence[float], confidence: float = 0.95) -> Interval:
    """Interval of Σ above / Σ below over clusters; for a paired difference `above` holds differences."""
    order = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    sums = np.zeros((2, len(order)))
    for cluster, a, b in zip(clusters, above, below, strict=True):
        sums[:, order[cluster]] += a, b

    def ratio(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        top, bottom = drawn @ sums[0], drawn @ sums[1]
        ratios: NDArray[np.float64] = np.divide(top, bottom, out=np.full(len(drawn), np.nan), where=bottom > 0)
        return ratios

    return by_cluster(clusters, ratio, confidence)


def quantile_interval(lists: Sequence[NDArray[np.float64]], q: float, confidence: float = 0.95, seed: int = 0) -> Interval:
    """Interval of the q-quantile of all values, whole lists resampled: the lower empirical quantile of each resample, weighted by how often its list
    was drawn."""
    values = np.concatenate(lists)
    order = np.argsort(values, kind="stable")
    owner = np.repeat(np.arange(len(lists)), [len(one) for one in lists])[order]
    below = np.cumsum(_drawn(len(lists), QUANTILE_RESAMPLES, seed)[:, owner], axis=1)
    place = (below >= q * below[:, -1:]).argmax(axis=1)
    low, high = np.quantile(values[order][place], [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


@functools.lru_cache(maxsize=4)
def _drawn(clusters: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """How often each cluster was drawn, [R, K]: the same for every figure of as many clusters, and dearer than all of them. Whole numbers in fp64,
    because they are multiplied with such."""
    return np.random.default_rng(seed).multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples).astype(np.float64)
