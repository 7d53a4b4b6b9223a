"""Answers that are right or wrong.

Here: the rule for items with one true answer, and that for questions whose answer has to hold certain words. Not here: running models, rates.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from eval.answers import Answered
from eval.figures import rate
from eval.items import Item
from eval.scoring import Score, Scorer


def is_right(item: Item, answered: Answered) -> bool:
    """Whether the model ended by itself and its last words are the answer, character by character: what it reasons before them is its own business.
    A space before the answer is a part of it, as in the row, so ` s1` is not the end of `is11`."""
    return answered.reason == "eos" and answered.text.endswith(item.answer)


def holds(item: Item, text: str) -> bool:
    """Whether a text has, of each group of accepted words, one as whole words: `12` is not in `128`, not in `1.12` and not in `-12`. None of the
    words that the item refuses comes first: `not true` says no, and `no, that is true of others` does."""
    said = folded(text)
    firsts = [min((place for words in group if (place := _place(words, said)) is not None), default=None) for group in item.accepted]
    refused = min((place for words in item.refused if (place := _place(words, said)) is not None), default=len(said))
    return all(first is not None and first < refused for first in firsts)


def _place(words: str, said: str) -> int | None:
    """Where words stand in a text for the first time; both are folded here or before."""
    wanted = folded(words)
    # Before a number no part of another one, and no sign: `5-12` has 12, `is -12` has not. Before a word anything may stand: `...Paris`.
    before = r"(?<![\w.,])(?<!(?<!\w)[-−])" if wanted[:1].isdigit() else r"(?<!\w)"
    found = re.search(rf"{before}{re.escape(wanted)}(?!\w|[.,]\d)", said)
    return found.start() if found else None


def folded(text: str) -> str:
    """Case, accents' composition and spacing aside."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def right(item: Item, said: Answered) -> bool:
    """By the rule that the item has."""
    return holds(item, said.text) if item.accepted else is_right(item, said)


def _score(item: Item, answers: Mapping[str, Answered]) -> dict[str, Score]:
    if item.behaviour == "decline":  # there is more than one way to say that something is missing
        return {"right": None}
    return {"right": right(item, answers["text"])}


WORDS = {
    "right": "has what the true answer must have",
}
SCORER = Scorer(_score, {"right": rate("right")}, WORDS)
