"""Answering again against answering once: which is right, what a judge says of each, how many loops that takes and why they end."""

from __future__ import annotations

from collections.abc import Mapping

from eval.answers import Answered
from eval.figures import change, mean, rate
from eval.items import Item
from eval.scoring import Score, Scorer
from eval.scoring.answers import right

# Reasons that are not a limit.
CONTENT = {"judge_score_threshold", "judge_score_and_delta_shrinking", "halt_head_threshold"}


def _score(item: Item, answers: Mapping[str, Answered]) -> dict[str, Score]:
    once, refined = answers["text"], answers["refined"]
    judged = refined.numbers.get("judge_score", ())
    return {
        "right_once": right(item, once),
        "right": right(item, refined),
        "content": refined.refined_until in CONTENT,
        "loops": float(refined.loops),
        "judged_once": judged[0] if judged else None,
        "judged": max(judged) if judged else None,
        "passes_once": float(once.passes),
        "passes": float(refined.passes),
    }


WORDS = {
    "right_once": "right at the first attempt",
    "right": "right by the best attempt",
    "right_change": "more often right than at the first attempt",
    "content": "ended because an answer was good enough, not at a limit",
    "loops": "attempts of an item",
    "judged_once": "the judge's score of the first attempt",
    "judged": "the judge's score of the best attempt",
}
SCORER = Scorer(
    _score,
    {
        "right_once": rate("right_once"),
        "right": rate("right"),
        "right_change": change("right", "right_once"),
        "content": rate("content"),
        "loops": mean("loops"),
        "judged_once": mean("judged_once"),
        "judged": mean("judged"),
    },
    WORDS,
)
