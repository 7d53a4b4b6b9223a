"""How answers are judged: one module for each matter, its scores of an item and the figures that a number of them gives.

Here: the record of a scorer. Not here: any scorer, the table of them (table.py). A score is a truth, a number, a list of
numbers (one per position), or None where the item is not eligible, which follows from the item and never from what the model said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from eval.answers import Answered
from eval.figures import Metric
from eval.items import Item

Score = bool | float | list[float] | None


@dataclass(frozen=True)
class Scorer:
    """`score`: of one item's answers by the name of their way. `metrics`: by the names that gates use; `words`: what each says, for a reader."""

    score: Callable[[Item, Mapping[str, Answered]], dict[str, Score]]
    metrics: Mapping[str, Metric]
    words: Mapping[str, str]
