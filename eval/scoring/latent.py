"""Latent spans against text: which is right, and what each takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eval.answers import Answered
from eval.figures import Row, change, rate, saving
from eval.items import Item
from eval.scoring import Score, Scorer
from eval.scoring.answers import is_right


def _score(item: Item, answers: Mapping[str, Answered]) -> dict[str, Score]:
    latent, text = answers["latent"], answers["text"]
    right = {"latent_accuracy": is_right(item, latent), "text_accuracy": is_right(item, text)}
    return {**right, "latent_passes": float(latent.passes), "text_passes": float(text.passes), "slots": float(latent.slots)}


def _deepest(rows: Sequence[Row]) -> Sequence[Row]:
    """The items with the most steps."""
    most = max((row.get("steps", 0) for row in rows), default=0)
    return [row for row in rows if row.get("steps", 0) == most]


def _both_right(rows: Sequence[Row]) -> Sequence[Row]:
    """A wrong answer that is short saves nothing."""
    return [row for row in rows if row["scores"]["latent_accuracy"] and row["scores"]["text_accuracy"]]


WORDS = {
    "latent_accuracy": "right in latent spans",
    "latent_accuracy_deepest": "of the items with the most steps: right in latent spans",
    "latent_change": "more often right in latent spans than in text",
    "passes_saved": "share of forward passes that spans save, where both ways are right",
    "text_accuracy": "right in text",
}
SCORER = Scorer(
    _score,
    {
        "latent_accuracy": rate("latent_accuracy"),
        "latent_accuracy_deepest": rate("latent_accuracy", _deepest),
        "latent_change": change("latent_accuracy", "text_accuracy"),
        "passes_saved": saving("latent_passes", "text_passes", _both_right),
        "text_accuracy": rate("text_accuracy"),
    },
    WORDS,
)
