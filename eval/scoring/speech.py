"""Whether a model speaks at all, cleanly, and does not repeat itself: what must hold of every answer, right or wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping

from eval.answers import Answered
from eval.figures import rate
from eval.items import Item
from eval.scoring import Score, Scorer

# U+FFFD stands for bytes that are no text; control characters but tab, line feed and carriage return belong to no answer.
_UNCLEAN = re.compile("[\ufffd\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_MARKERS = re.compile(r"<\|[a-z_]+\|>|</?s>|<(?:bot|eot)>")
_LONGEST = 12  # words of a phrase that may be repeated
_TIMES = 4


def _score(item: Item, answers: Mapping[str, Answered]) -> dict[str, Score]:
    text = answers["text"].text
    return {
        "spoke": bool(text.strip()) or bool(answers["text"].calls),
        "ended": answers["text"].reason in ("eos", "stop", "halt"),
        "clean": not _UNCLEAN.search(text) and not _MARKERS.search(text),
        "fluent": not repeats(text),
    }


def repeats(text: str) -> bool:
    """Whether a phrase of at most twelve words comes four times in a row, and has at least eight words then: `ha ha ha ha` is none."""
    words = text.split()
    for size in range(1, _LONGEST + 1):
        times = max(_TIMES, -(-8 // size))
        for start in range(len(words) - size * times + 1):
            phrase = words[start : start + size]
            if all(words[start + k * size : start + (k + 1) * size] == phrase for k in range(1, times)):
                return True
    return False


WORDS = {
    "spoke": "said something",
    "ended": "came to an end before the limit of tokens",
    "clean": "no broken characters, no control tokens",
    "fluent": "no phrase four times in a row",
}
SCORER = Scorer(_score, {name: rate(name) for name in WORDS}, WORDS)
