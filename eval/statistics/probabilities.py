"""How good a probability is: does it order, is it honest.

Here: the area under the curve, Brier's score, calibration. Not here: where a threshold stands, what is counted.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]


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
