"""Two ways of answering the same items.

Here: exact tests of pairs. Not here: intervals (intervals.py), how many tests there are (Holm's correction is the claim's).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb


def mcnemar(better: Sequence[bool], worse: Sequence[bool]) -> float:
    """The probability of a lead at least this large if both were equally good: P(Bin(n, 1/2) ≥ b) over the n pairs that differ, b of them for
    `better`."""
    won = sum(a and not b for a, b in zip(better, worse, strict=True))
    differ = won + sum(b and not a for a, b in zip(better, worse, strict=True))
    return float(sum(comb(differ, count) for count in range(won, differ + 1)) / 2**differ)
