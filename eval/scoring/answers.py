"""Answers that are right or wrong.

Here: the rule for items with one true answer. Not here: running models, rates.
"""

from __future__ import annotations

from eval.items import Item
from eval.runners.deployment import Answered


def is_right(item: Item, answered: Answered) -> bool:
    """Whether the model ended by itself and its last words are the answer, character by character: what it reasons before them is its own business.
    A space before the answer is a part of it, as in the row, so ` s1` is not the end of `is11`."""
    return answered.reason == "eos" and answered.text.endswith(item.answer)
