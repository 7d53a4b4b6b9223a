"""Judge `rules`: words that must or must not stand there, patterns, lengths. The score is the share that holds.

Here: the checks and their words. Not here: running patterns (patterns.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, field_validator

from interlock.contracts.base import Frozen
from runtime.engine.sandbox import ChildFailed
from runtime.orchestration.judges import patterns
from runtime.orchestration.judges.verdict import Judge, Verdict

Text = Annotated[str, Field(min_length=1, max_length=4096)]
Length = Annotated[int, Field(ge=0, le=1 << 24)]
Check = tuple[bool, str, str]
"""Whether it holds, its name, what to do where it does not."""


class Rules(Frozen):
    """contains, lacks: texts; matches, avoids: patterns of Python's `re`, found anywhere; characters and words are counted after stripping."""

    kind: Literal["rules"]
    contains: tuple[Text, ...] = ()
    lacks: tuple[Text, ...] = ()
    matches: tuple[Text, ...] = ()
    avoids: tuple[Text, ...] = ()
    min_chars: Length | None = None
    max_chars: Length | None = None
    min_words: Length | None = None
    max_words: Length | None = None
    ignore_case: bool = False

    @field_validator("matches", "avoids")
    @classmethod
    def _compile(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            _check_pattern(pattern)
        return value


def _check_pattern(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"`{pattern}` is no regular expression: {error}") from None


def rules(asked: Rules) -> Judge:
    """Every rule counts the same; none holds nothing against an answer. A pattern that takes too long does not hold."""

    def judge(_request: str, answer: str) -> Verdict:
        checks = [*_texts(asked, answer), *_lengths(asked, answer), *_patterns(asked, answer)]
        wrong = [(name, remedy) for holds, name, remedy in checks if not holds]
        score = 1 - len(wrong) / len(checks) if checks else 1.0
        record = {"checks": len(checks), "failed": [name for name, _ in wrong]}
        return Verdict(score, " ".join(remedy for _, remedy in wrong), len(wrong), record)

    return judge


def _texts(asked: Rules, answer: str) -> Iterator[Check]:
    seen = answer.casefold() if asked.ignore_case else answer
    for text in asked.contains:
        yield (text.casefold() if asked.ignore_case else text) in seen, f"contains `{text}`", f"It must contain `{text}`."
    for text in asked.lacks:
        yield (text.casefold() if asked.ignore_case else text) not in seen, f"lacks `{text}`", f"It must not contain `{text}`."


def _lengths(asked: Rules, answer: str) -> Iterator[Check]:
    for unit, size in (("chars", len(answer.strip())), ("words", len(answer.split()))):
        least, most = getattr(asked, f"min_{unit}"), getattr(asked, f"max_{unit}")
        told = "characters" if unit == "chars" else unit
        if least is not None:
            yield size >= least, f"min_{unit} {least}", f"It has {size} {told}, at least {least} are needed."
        if most is not None:
            yield size <= most, f"max_{unit} {most}", f"It has {size} {told}, at most {most} are allowed."


def _patterns(asked: Rules, answer: str) -> Iterator[Check]:
    if not asked.matches and not asked.avoids:
        return
    try:
        hits = patterns.found([*asked.matches, *asked.avoids], answer, ignore_case=asked.ignore_case)
    except ChildFailed as failed:
        for pattern in (*asked.matches, *asked.avoids):
            yield False, f"pattern `{pattern}`: {failed}", ""
        return
    for pattern, hit in zip(asked.matches, hits, strict=False):
        yield hit, f"matches `{pattern}`", f"It must match the pattern `{pattern}`."
    for pattern, hit in zip(asked.avoids, hits[len(asked.matches) :], strict=True):
        yield not hit, f"avoids `{pattern}`", f"It must not match the pattern `{pattern}`."
