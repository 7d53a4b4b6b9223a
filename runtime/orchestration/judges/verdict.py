"""What a judge says, and several of them as one.

Here: the record every judge returns. Not here: any judge.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from interlock.errors import UsageError


@dataclass(frozen=True)
class Verdict:
    """score: 0 to 1; feedback: what the next attempt is told; failing: how many checks do not hold; record: what was found, plain values for JSON.

    Raises UsageError for a score that is none.
    """

    score: float
    feedback: str = ""
    failing: int = 0
    record: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.score) and 0 <= self.score <= 1):
            raise UsageError(f"a judge gave the score {self.score}", remedy="a score is a number from 0 to 1")


Judge = Callable[[str, str], Verdict]
"""Of a request and an answer to it."""

JudgeFn = Callable[[str], "float | Verdict"]
"""The guide's form: of an answer alone."""


def of_function(judge_fn: JudgeFn) -> Judge:
    """What it raises is the caller's own and is not caught."""

    def judge(_request: str, answer: str) -> Verdict:
        said = judge_fn(answer)
        return said if isinstance(said, Verdict) else Verdict(float(said))

    return judge


def together(judges: Sequence[tuple[str, Judge]]) -> Judge:
    """All of them, by name, in order: an answer is as good as the judge says that likes it least. The record has each one's score, time, findings."""

    def judge(request: str, answer: str) -> Verdict:
        verdicts, records = [], []
        for name, one in judges:
            started = time.perf_counter()
            said = one(request, answer)
            wall_ms = (time.perf_counter() - started) * 1e3
            verdicts.append(said)
            records.append({"judge": name, "score": said.score, "failing": said.failing, "wall_ms": wall_ms, **said.record})
        feedback = " ".join(said.feedback for said in verdicts if said.feedback)
        return Verdict(min(said.score for said in verdicts), feedback, sum(said.failing for said in verdicts), {"judges": records})

    return judge
