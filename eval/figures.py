"""Figures of rows: what a number of scores shows, each with its interval.

Here: from the rows of an evaluation to figures, one builder for each kind. Not here: scores (scoring), the formulas (statistics), claims (gates).
Scores of an item are None where it is not eligible: that follows from the item alone, never from what a model said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from eval.statistics import clusters, intervals, paired
from eval.statistics.gates import Figure
from eval.statistics.intervals import Interval

Row = Mapping[str, Any]
Metric = Callable[[Sequence[Row], float], Figure]
Only = Callable[[Sequence[Row]], Sequence[Row]]


def rate(score: str, only: Only | None = None) -> Metric:
    """The share of items for which a score is true. Wilson's interval; where items share clusters, it and the bootstrap over clusters together."""

    def figure(rows: Sequence[Row], confidence: float) -> Figure:
        eligible = [row for row in (only(rows) if only else rows) if row["scores"].get(score) is not None]
        missed = tuple(row["id"] for row in eligible if not row["scores"][score])
        n = len(eligible)
        if not n:
            return Figure(None, 0, "wilson")
        narrow = intervals.wilson(n - len(missed), n, confidence)
        names = _clusters(eligible)
        if len(set(names)) == n:
            return Figure(narrow, n, "wilson", missed)
        truths = [float(bool(row["scores"][score])) for row in eligible]
        low, high = clusters.ratio_interval(names, truths, [1.0] * n, confidence)
        return Figure(Interval(narrow.measured, min(low, narrow.low), max(high, narrow.high)), n, "cluster bootstrap", missed)

    return figure


def count(score: str) -> Metric:
    """How many items have a score that is false: a claim about these items alone, so it has no width. `at_most = 0` is a hard gate."""

    def figure(rows: Sequence[Row], confidence: float) -> Figure:
        eligible = [row for row in rows if row["scores"].get(score) is not None]
        missed = tuple(row["id"] for row in eligible if not row["scores"][score])
        number = float(len(missed))
        return Figure(Interval(number, number, number) if eligible else None, len(eligible), "count", missed)

    return figure


def mean(score: str, full: float | None = None) -> Metric:
    """The mean of a score over the items that have one; lists are pooled, and then an item is a cluster. full: what an item misses that has less."""

    def figure(rows: Sequence[Row], confidence: float) -> Figure:
        eligible = [row for row in rows if row["scores"].get(score) is not None and row["scores"][score] != []]
        if not eligible:
            return Figure(None, 0, "cluster bootstrap")
        values = [row["scores"][score] for row in eligible]
        above = [float(np.sum(one)) for one in values]
        below = [float(np.size(one)) for one in values]
        low, high = clusters.ratio_interval(_clusters(eligible), above, below, confidence)
        measured = sum(above) / sum(below)
        missed = tuple(row["id"] for row, value in zip(eligible, values, strict=True) if full is not None and float(np.mean(value)) < full)
        return Figure(Interval(measured, min(low, measured), max(high, measured)), len(eligible), "cluster bootstrap", missed)

    return figure


def quantile(score: str, q: float) -> Metric:
    """A quantile of pooled lists; items are resampled."""

    def figure(rows: Sequence[Row], confidence: float) -> Figure:
        lists = [np.asarray(row["scores"][score], np.float64) for row in rows if row["scores"].get(score)]
        if not lists:
            return Figure(None, 0, "cluster bootstrap")
        measured = float(np.quantile(np.concatenate(lists), q))
        low, high = clusters.quantile_interval(lists, q, confidence)
        return Figure(Interval(measured, min(low, measured), max(high, measured)), len(lists), "cluster bootstrap")

    return figure


def saving(spent: str, before: str, only: Only | None = None) -> Metric:
    """1 - what was spent over what was spent before, of the same items."""

    def figure(rows: Sequence[Row], confidence: float) -> Figure:
        chosen = [row for row in (only(rows) if only else rows) if row["scores"].get(spent) is not None]
        old = [float(row["scores"][before]) for row in chosen]
        if not sum(old) > 0:
            return Figure(None, len(chosen) if chosen else 0, "paired bootstrap")
        return Figure(intervals.saving([float(row["scores"][spent]) for row in chosen], old, confidence), len(chosen), "paired bootstrap")

    return figure


def change(score: str, before: str) -> Metric:
    """How much more often a score is true than another one of the same items: Tango's interval of paired rates."""

    def figure(rows: Sequence[Row], confidence: float) -> Figure:
        pairs = [(bool(row["scores"][score]), bool(row["scores"][before]), row["id"]) for row in rows if row["scores"].get(score) is not None]
        if not pairs:
            return Figure(None, 0, "exact mcnemar")
        gained = sum(now and not then for now, then, _ in pairs)
        lost = tuple(name for now, then, name in pairs if then and not now)
        return Figure(paired.difference(gained, len(lost), len(pairs), confidence), len(pairs), "exact mcnemar", lost)

    return figure


def _clusters(rows: Sequence[Row]) -> list[str]:
    """What each row shares with others; a row that stands alone is its own."""
    return [row.get("cluster") or f"item {row['id']}" for row in rows]
