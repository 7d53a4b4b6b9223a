"""The table of scorers, what a suite's gates may be about, and the row of an item.

Here: imports of all scorers, so that the key of stage `eval` has their source. Not here: any scorer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from eval.answers import Answered
from eval.figures import Metric
from eval.items import Item
from eval.scoring import Scorer, answered, answers, calls, code, context, grounding, halting, latent, parity, privacy, reading, refinement, speech
from eval.suite import Suite
from interlock.errors import UsageError

SCORERS = {
    "answered": answered.SCORER,
    "answers": answers.SCORER,
    "calls": calls.SCORER,
    "code": code.SCORER,
    "context": context.SCORER,
    "grounding": grounding.SCORER,
    "halting": halting.SCORER,
    "latent": latent.SCORER,
    "parity": parity.SCORER,
    "privacy": privacy.SCORER,
    "reading": reading.SCORER,
    "refinement": refinement.SCORER,
    "speech": speech.SCORER,
}


def scorers(names: Iterable[str]) -> list[Scorer]:
    """Raises UsageError for a name that is none."""
    for name in names:
        if name not in SCORERS:
            raise UsageError(f"there is no scorer `{name}`", remedy=f"there are {', '.join(SCORERS)}")
    return [SCORERS[name] for name in names]


def metrics(suite: Suite) -> dict[str, Metric]:
    """All that a gate of the suite may be about."""
    return {name: metric for scorer in scorers(suite.scorers) for name, metric in scorer.metrics.items()}


def words(suite: Suite) -> dict[str, str]:
    """What each figure of the suite says."""
    return {name: told for scorer in scorers(suite.scorers) for name, told in scorer.words.items()}


def row(suite: Suite, item: Item, said: Mapping[str, Answered]) -> dict[str, Any]:
    """An item as it stands in `results.jsonl`: what was asked, what was said, how that is judged. One without an answer has no score but that."""
    judging = scorers(suite.scorers) if answered.answered(said) else [answered.SCORER]
    scores = {name: score for scorer in judging for name, score in scorer.score(item, said).items()}
    document: dict[str, Any] = {
        "id": item.id,
        "given": item.given,
        "wanted": item.answer,
        "steps": item.steps,
        "strata": item.strata,
        "cluster": item.cluster,
        "expected": [{"name": call.name, "arguments": call.arguments} for call in item.calls],
        "answers": {way: one.record() for way, one in said.items()},
        "scores": scores,
    }
    return {name: value for name, value in document.items() if value or name in ("id", "given", "wanted", "answers", "scores")}
