"""Code mode against direct calls: how often it is used where it is meant for, what it saves, and whether answers are as right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eval.answers import Answered
from eval.figures import Row, change, mean, rate, saving
from eval.items import Item
from eval.scoring import Score, Scorer
from eval.scoring.answers import holds, is_right


def _score(item: Item, answers: Mapping[str, Answered]) -> dict[str, Score]:
    """`ces_*` as in context.py. An item that has no one true answer is right or wrong in neither way."""
    code, direct = answers["text"], answers["direct"]
    right = [None if item.behaviour == "decline" else holds(item, one.text) if item.accepted else is_right(item, one) for one in (code, direct)]
    return {
        "code_used": bool(code.ran) if item.for_code else None,
        "programs_done": [float(one.how == "done") for one in code.ran],
        "ces_code": float(code.prompt_tokens + code.passes) if item.for_code else None,
        "ces_direct": float(direct.prompt_tokens + direct.passes) if item.for_code else None,
        **dict(zip(("right_by_code", "right_directly"), right, strict=True)),
    }


def _both_right(rows: Sequence[Row]) -> Sequence[Row]:
    """A wrong answer that is short saves nothing."""
    return [row for row in rows if row["scores"]["right_by_code"] and row["scores"]["right_directly"]]


WORDS = {
    "code_adoption": "of items for code, a program was run",
    "programs_done": "programs that ended without an error",
    "ces_saved": "tokens of direct calls that code mode spares, where both are right",
    "code_change": "how much more often code mode is right than direct calls",
}
METRICS = {
    "code_adoption": rate("code_used"),
    "programs_done": mean("programs_done", full=1.0),
    "ces_saved": saving("ces_code", "ces_direct", _both_right),
    "code_change": change("right_by_code", "right_directly"),
}
SCORER = Scorer(_score, METRICS, WORDS)
