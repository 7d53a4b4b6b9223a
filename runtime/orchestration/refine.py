"""Whether another attempt follows: the rules of refinement over what attempts have shown.

Here: the decision, pure. Not here: attempts themselves (attempts.py), scores (judges).
All of a request's state is the list of its attempts: nothing is left over for the next request.

In this order, the first that holds is the reason to stop:

1. `judge_score_and_delta_shrinking`, `judge_score_threshold`: the score reaches the threshold. The first where an attempt stood before it and the
   changes get smaller; the second for a first attempt, and for one that was rewritten. One that fails more checks than the attempt before it is
   never accepted.
2. `halt_head_threshold`: without a judge, the halt head. It says that an answer is complete, not that it is right, so a judge is not overruled by it.
3. `max_loops_reached`: last, so that an answer that was accepted at the last loop says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

HaltReason = Literal[
    "judge_score_threshold", "judge_score_and_delta_shrinking", "halt_head_threshold", "max_loops_reached", "position_limit", "interrupted"
]


@dataclass(frozen=True)
class Rules:
    """judge_score: from which on an answer is accepted; halt_probability: from which on the head is obeyed, None where it is off."""

    judge_score: float
    halt_probability: float | None
    max_loops: int


@dataclass(frozen=True)
class Shown:
    """What one attempt shows. score: 0 to 1, None without a judge; failing: checks that do not hold; halt_probability: of the head where it was
    taught to be read, None where it was not asked."""

    text: str
    score: float | None
    failing: int
    halt_probability: float | None
    latent_spans: int


@dataclass(frozen=True)
class Decision:
    """halt_reason: None where another attempt follows. delta: how much of this and the attempt before is alike, 0 to 1, None for the first;
    delta_shrinking: whether changes get smaller and no more checks fail."""

    loop: int
    halt_reason: HaltReason | None
    judge_score: float | None
    halt_probability: float | None
    delta: float | None
    delta_shrinking: bool
    latent_spans_used: int
    total_latent_spans: int


def decide(rules: Rules, attempts: Sequence[Shown]) -> Decision:
    """After the last of `attempts`, at least one."""
    now, before = attempts[-1], attempts[:-1]
    delta = likeness(now.text, before[-1].text) if before else None
    shrinking = delta is not None and delta >= _delta_before(before) and now.failing <= before[-1].failing
    return Decision(
        loop=len(attempts),
        halt_reason=_reason(rules, now, before, shrinking),
        judge_score=now.score,
        halt_probability=now.halt_probability,
        delta=delta,
        delta_shrinking=shrinking,
        latent_spans_used=now.latent_spans,
        total_latent_spans=sum(one.latent_spans for one in attempts),
    )


def best(attempts: Sequence[Shown]) -> int:
    """The place of the answer: the highest score, the earliest of equals; without a judge the last."""
    if attempts[-1].score is None:
        return len(attempts) - 1
    return max(range(len(attempts)), key=lambda place: (attempts[place].score or 0.0, -place))


def likeness(one: str, other: str) -> float:
    """Words that both have, over words that either has, each as often as it stands there; 1 for two empty texts."""
    a, b = Counter(one.split()), Counter(other.split())
    return (a & b).total() / (a | b).total() if a or b else 1.0


def _delta_before(before: Sequence[Shown]) -> float:
    return likeness(before[-1].text, before[-2].text) if len(before) > 1 else 0.0


def _reason(rules: Rules, now: Shown, before: Sequence[Shown], shrinking: bool) -> HaltReason | None:
    worse = bool(before) and now.failing > before[-1].failing
    if now.score is not None and now.score >= rules.judge_score and not worse:
        return "judge_score_and_delta_shrinking" if shrinking else "judge_score_threshold"
    sure = now.halt_probability is not None and rules.halt_probability is not None and now.halt_probability >= rules.halt_probability
    if now.score is None and sure:
        return "halt_head_threshold"
    return "max_loops_reached" if len(before) + 1 >= rules.max_loops else None
