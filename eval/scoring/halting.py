"""A halt head: whether it fires, what it saves, and whether what it cuts off was needed."""

from __future__ import annotations

from collections.abc import Mapping

from eval.answers import Answered
from eval.figures import rate, saving
from eval.items import Item
from eval.scoring import Score, Scorer
from eval.scoring.answers import holds


def _score(item: Item, answers: Mapping[str, Answered]) -> dict[str, Score]:
    """`kept` is of the items that the model answers rightly when it is not stopped: only there can a head spoil anything."""
    halting, text = answers["halting"], answers["text"]
    right, unstopped = holds(item, halting.text), holds(item, text.text)
    return {
        "halted": halting.reason == "halt",
        "right": right,
        "right_without": unstopped,
        "kept": right if unstopped else None,
        "tokens": float(halting.passes),
        "tokens_without": float(text.passes),
    }


METRICS = {"halted": rate("halted"), "right": rate("right"), "right_without": rate("right_without"), "kept": rate("kept")}
WORDS = {
    "halted": "ended by the halt head",
    "right": "right with the head",
    "right_without": "right without it",
    "kept": "of those right without it: right with it too",
    "tokens_saved": "share of all tokens that the head saves",
}
SCORER = Scorer(_score, {**METRICS, "tokens_saved": saving("tokens", "tokens_without")}, WORDS)
