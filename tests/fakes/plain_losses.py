"""Losses written again in numpy and fp64, one row at a time, as their papers write them: what those of training are compared with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Row = NDArray[np.float64]

# An fp32 log-softmax of C logits of size ≤ 12 is off by a few units in the last place of its value (≤ 12 + 12 + ln C < 32: 2^-19), a divergence is a
# mean of differences of two such, and rows add up: 4 units each.
ROW_ERROR = 4 * 2.0**-19


def softmax(logits: Row, temperature: float = 1.0) -> Row:
    weights: Row = np.exp((logits - logits.max()) / temperature)
    return weights / weights.sum()


def kl(left: Row, right: Row) -> float:
    """Σ l log(l / r); a class of left that is 0 adds nothing."""
    return float(sum(p * np.log(p / q) for p, q in zip(left, right, strict=True) if p > 0))


def jsd(student: Row, teacher: Row, beta: float) -> float:
    """TRL's `generalized_jsd_loss`, in probabilities."""
    if beta in (0, 1):
        return kl(teacher, student) if beta == 0 else kl(student, teacher)
    mixture = beta * teacher + (1 - beta) * student
    return beta * kl(teacher, mixture) + (1 - beta) * kl(student, mixture)


def merged(probabilities: Row, ids: NDArray[np.int64]) -> Row:
    """Those of the ids, then all the others as one."""
    return np.append(probabilities[ids], np.delete(probabilities, ids).sum())
