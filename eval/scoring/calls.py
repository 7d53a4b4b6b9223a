"""Calls of tools: whether they can be made, whether they are the right ones, with the right arguments, and none where none may be.

Here: comparison by structure. Not here: what their results are used for (grounding.py). Whether an item counts follows from what it expects: a model
that calls nothing where a call is expected has missed it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eval.answers import Answered
from eval.calls import Call, Made
from eval.figures import count, mean, rate
from eval.items import Item
from eval.scoring import Score, Scorer


def accepts(expected: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    """Whether arguments are those that are expected, by name; an expected list is the set of values that are accepted."""
    return expected.keys() == given.keys() and all(_accepts(value, given[name]) for name, value in expected.items())


def _accepts(expected: Any, given: Any) -> bool:
    values = expected if isinstance(expected, list) else [expected]
    return any(type(one) is type(given) and one == given for one in values)


def as_expected(expected: Sequence[Call], made: Sequence[Made]) -> bool:
    """The same calls in the same order, each with accepted arguments."""
    return len(expected) == len(made) and all(
        call.name == one.name and accepts(call.arguments, one.arguments) for call, one in zip(expected, made, strict=True)
    )


def _score(item: Item, answers: Mapping[str, Answered]) -> dict[str, Score]:
    said = answers["text"]
    calls, wanted = said.calls, bool(item.calls)
    names = [one.name for one in calls]
    return {
        "calls_valid": bool(calls) and not said.malformed and not any(one.problems for one in calls) if wanted else None,
        "tools_right": names == [call.name for call in item.calls] if wanted else None,
        "arguments_right": as_expected(item.calls, calls) if wanted else None,
        "multi_call_parity": names == [call.name for call in item.calls] if len(item.calls) > 1 else None,
        "abstained": not calls and not said.malformed if item.is_control else None,
        "control_clean": not calls and not said.malformed and "Integration:" not in said.text if item.is_control else None,
        "fixture_hits": [float(one.result is not None) for one in calls] if wanted else None,
    }


RATES = ("calls_valid", "tools_right", "arguments_right", "multi_call_parity", "abstained")
WORDS = {
    "calls_valid": "called something, readable and as the tools take it",
    "tools_right": "called the expected tools in their order",
    "arguments_right": "called them with the expected arguments",
    "multi_call_parity": "of items with several calls: all of them, in their order",
    "abstained": "of items that need no tool: called none",
    "controls_contaminated": "items that need no tool, with a call or a line `Integration:`",
    "fixture_hit_rate": "calls that have a recorded result",
}
SCORER = Scorer(
    _score,
    {
        **{name: rate(name) for name in RATES},
        "controls_contaminated": count("control_clean"),
        "fixture_hit_rate": mean("fixture_hits", full=1.0),
    },
    WORDS,
)
