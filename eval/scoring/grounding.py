"""Grounding: whether what an answer says that it uses from a tool's result stands in that result.

Here: spans after `Integration:`, lax and strict F1. Not here: whether the right tool was called (calls.py).
The deployment guide's rules, without what let empty and wrong answers pass: whether an item counts follows from what it expects, values keep their
type and their call, what says nothing (truths, one letter) grounds nothing. Strict counts the guide's keyed fields, and those that hold the answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from eval.answers import Answered
from eval.figures import mean, rate
from eval.items import Item
from eval.scoring import Score, Scorer
from eval.scoring.answers import folded

CAP = 3
KEYED = ("summary", "lines", "count", "top_k", "results")
_SPAN = re.compile(r"^[ \t]*Integration:[ \t]*(.*)$", re.MULTILINE)
_SENTENCE = re.compile(r"[.!?…](?=\s|$)")
_SHORTEST = 2  # characters of a text that says something


def spans(text: str) -> list[str]:
    """What stands after `Integration:` on a line, up to the end of its sentence."""
    found = []
    for match in _SPAN.finditer(text):
        ends = _SENTENCE.search(match[1])
        found.append(match[1][: ends.start()] if ends else match[1])
    return [one.strip() for one in found if one.strip()]


def grounded(span: str, value: Any) -> bool:
    """Whether a value of a result stands in a span: texts by their words, numbers whole (`128` is not in `1280` and not in `0.128`), addresses by
    host and first part of the path."""
    said = folded(span)
    if isinstance(value, bool) or value is None:
        return False
    if isinstance(value, int | float):
        return _whole(str(value), said)
    words = folded(str(value))
    if words.startswith(("http://", "https://")):
        try:
            parts = urlsplit(words)
        except ValueError:
            return False
        first = parts.path.strip("/").split("/")[0]
        return (parts.hostname or words).removeprefix("www.") in said and first in said
    return len(words) >= _SHORTEST and _whole(words, said)


def _whole(words: str, said: str) -> bool:
    return re.search(rf"(?<!\w)(?<!\d[.,]){re.escape(words)}(?!\w|[.,]\d)", said) is not None


def values(result: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a result with the name of its outermost field."""
    if isinstance(result, Mapping):
        for key, one in result.items():
            yield from values(one, name or key)
    elif isinstance(result, list):
        for one in result:
            yield from values(one, name)
    else:
        yield name, result


def f1(found: list[bool]) -> float:
    """Of spans, each grounded or not: precision is their share, recall whether any is; 0 where there is none."""
    if not any(found):
        return 0.0
    precision = sum(found) / len(found)
    return 2 * precision / (precision + 1)


def _score(item: Item, answers: Mapping[str, Answered]) -> dict[str, Score]:
    if item.is_control or not item.calls:
        return dict.fromkeys(("integration_f1_lax", "integration_f1_strict", "spans_within_cap", "spans"))
    said = answers["text"]
    told = spans(said.text)
    facts = [fact for made in said.calls if made.result is not None and made.result.get("ok") is not False for fact in values(made.result)]
    truths = {folded(word) for group in item.accepted for word in group}
    strict = [value for name, value in facts if name in KEYED or folded(str(value)) in truths]
    judged = told[:CAP]
    return {
        "integration_f1_lax": f1([any(grounded(span, value) for _, value in facts) for span in judged]),
        "integration_f1_strict": f1([any(grounded(span, value) for value in strict) for span in judged]),
        "spans_within_cap": len(told) <= CAP,
        "spans": float(len(told)),
    }


WORDS = {
    "integration_f1_lax": "what it says to use from results stands in them",
    "integration_f1_strict": "and is what answers the question",
    "spans_within_cap": "says so at most three times",
}
SCORER = Scorer(
    _score,
    {
        "integration_f1_lax": mean("integration_f1_lax", full=1.0),
        "integration_f1_strict": mean("integration_f1_strict", full=1.0),
        "spans_within_cap": rate("spans_within_cap"),
    },
    WORDS,
)
