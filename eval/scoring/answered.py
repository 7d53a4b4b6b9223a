"""Whether an item got an answer at all, from a model that may fail by itself: of one that did not, nothing else is judged."""

from __future__ import annotations

from collections.abc import Mapping

from eval.answers import Answered
from eval.figures import count
from eval.items import Item
from eval.scoring import Score, Scorer
from eval.suite import ANSWERED, UNANSWERED


def _score(item: Item, answers: Mapping[str, Answered]) -> dict[str, Score]:
    return {ANSWERED: answered(answers)}


def answered(answers: Mapping[str, Answered]) -> bool:
    return not any(said.reason == "failed" for said in answers.values())


SCORER = Scorer(_score, {UNANSWERED: count(ANSWERED)}, {UNANSWERED: "items that got no answer"})
