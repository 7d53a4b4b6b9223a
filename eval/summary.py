"""What a whole evaluation shows: figures with intervals, and means by what the items are like.

Here: from rows to one document. Not here: figures (figures.py), how it looks (pipeline/reports).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eval.figures import Row
from eval.scoring.table import metrics, words
from eval.statistics.gates import Figure
from eval.suite import Suite


def figures_of(suite: Suite, rows: Sequence[Row], confidence: float) -> dict[str, Figure]:
    """Every figure of a suite by its name."""
    return {name: metric(rows, confidence) for name, metric in metrics(suite).items()}


def summary(suite: Suite, rows: Sequence[Row], figures: Mapping[str, Figure]) -> dict[str, Any]:
    """As it stands in `summary.json`: what the suite asks, `means` of all items, `by` each stratum (and number of steps), `figures` with their
    intervals and what each says."""
    groups: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        strata = {**row.get("strata", {}), **({"steps": str(row["steps"])} if row.get("steps") else {})}
        for name, value in strata.items():
            groups.setdefault(name, {}).setdefault(str(value), []).append(row)
    shown = {name: values for name, values in sorted(groups.items()) if 1 < len(values) <= 64}
    told = words(suite)
    return {
        "suite": suite.name,
        "description": suite.description,
        "items": len(rows),
        "means": means(rows),
        "by": {name: {value: means(values[value]) for value in sorted(values, key=_in_order)} for name, values in shown.items()},
        "figures": {name: {"words": told[name], **_told(figure)} for name, figure in figures.items()},
    }


def means(rows: Sequence[Row]) -> dict[str, float]:
    """How many rows there are, and the mean of each score over those that have one; lists by their own means."""
    found: dict[str, float] = {"items": len(rows)}
    for name in dict.fromkeys(score for row in rows for score in row["scores"]):
        values = [_number(row["scores"][name]) for row in rows if row["scores"].get(name) not in (None, [])]
        if values:
            found[name] = sum(values) / len(values)
    return found


def _number(value: Any) -> float:
    return sum(value) / len(value) if isinstance(value, list) else float(value)


def _in_order(value: str) -> tuple[float, str]:
    """Names that begin with a number by that, others after them."""
    head = value.split()[0] if value.split() else ""
    return (float(head), value) if head.isdigit() else (float("inf"), value)


def _told(figure: Figure) -> dict[str, Any]:
    interval = figure.interval._asdict() if figure.interval else {}
    return {**interval, "n": figure.n, "method": figure.method, "missed": list(figure.missed)}
