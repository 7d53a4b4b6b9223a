"""Two ways of answering the same items.

Here: exact tests of pairs, the interval of their difference, what a number of items can resolve, correction for many tests. Not here: intervals of
one rate (intervals.py), what is compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from math import comb
from statistics import NormalDist

import numpy as np

from eval.statistics.intervals import Interval

FLIPS, SEED = 10_000, 0
_STEPS = 60  # halvings of an interval of width 1: below 1e-17


def mcnemar(better: Sequence[bool], worse: Sequence[bool]) -> float:
    """The probability of a lead at least this large if both were equally good: P(Bin(n, 1/2) ≥ b) over the n pairs that differ, b of them for
    `better`."""
    won = sum(a and not b for a, b in zip(better, worse, strict=True))
    differ = won + sum(b and not a for a, b in zip(better, worse, strict=True))
    return float(sum(comb(differ, count) for count in range(won, differ + 1)) / 2**differ)


def flips(differences: Sequence[float]) -> float:
    """The probability of a mean at least this far below zero if each difference were as likely with the other sign: one-sided, by 10,000 draws of
    signs, the same for the same numbers. 1.0 where nothing differs."""
    values = np.asarray([one for one in differences if one], np.float64)
    if not len(values):
        return 1.0
    random, found, observed = np.random.default_rng(SEED), 0, values.sum()
    for _ in range(10):
        signs = random.integers(0, 2, (FLIPS // 10, len(values))) * 2 - 1
        found += int((signs @ values <= observed + 1e-12 * abs(observed)).sum())
    return (found + 1) / (FLIPS + 1)


def difference(gained: int, lost: int, n: int, confidence: float) -> Interval:
    """(gained - lost) / n, the difference of two rates of the same n items, with Tango's score interval (Statistics in Medicine 17, 1998, 891-908).

    gained: items that only the first way has right; lost: those that only the second has. n ≥ 1.
    """
    measured = (gained - lost) / n
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    low = -1.0 if _score(gained, lost, n, -1.0) <= z else _root(gained, lost, n, z, -1.0, measured)
    high = 1.0 if _score(gained, lost, n, 1.0) >= -z else _root(gained, lost, n, -z, 1.0, measured)
    return Interval(measured, min(low, measured), max(high, measured))


def resolvable(n: int, confidence: float) -> float:
    """The margin that n items can show at all: by how much two ways that agree on every item may still differ."""
    return -difference(0, 0, n, confidence).low


def holm(probabilities: Mapping[str, float]) -> dict[str, float]:
    """Each probability adjusted for how many there are (Holm 1979): rejecting those of at most α rejects a true one in at most a share α of cases."""
    adjusted, worst, count = {}, 0.0, len(probabilities)
    for place, (name, probability) in enumerate(sorted(probabilities.items(), key=lambda one: one[1])):
        worst = max(worst, min(1.0, (count - place) * probability))
        adjusted[name] = worst
    return {name: adjusted[name] for name in probabilities}


def _score(b: int, c: int, n: int, delta: float) -> float:
    """How many standard errors the observed difference lies above `delta`, with the variance that is most likely where `delta` is true."""
    linear = -b - c + (2 * n - b + c) * delta
    constant = -c * delta * (1 - delta)
    root = math.sqrt(max(linear * linear - 8 * n * constant, 0.0))
    q = (root - linear) / (4 * n)
    variance = n * (2 * q + delta * (1 - delta))
    lead = b - c - n * delta
    if variance <= 0:
        return 0.0 if lead == 0 else math.copysign(math.inf, lead)
    return lead / math.sqrt(variance)


def _root(b: int, c: int, n: int, z: float, far: float, near: float) -> float:
    """Where the score passes z, between a far and a near end: it falls as `delta` grows."""
    low, high = min(far, near), max(far, near)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if _score(b, c, n, middle) > z:
            low = middle
        else:
            high = middle
    return (low + high) / 2
