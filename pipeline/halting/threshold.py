"""From scores to stops: where an answer is ended, what that costs and saves, and the threshold that cuts no more than it may.

Here: the decision, counted. Not here: intervals (figures.py), scores (fit.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.halting.fit import Scores
from pipeline.halting.traces import Trace


@dataclass(frozen=True)
class Stop:
    """What ending one answer early did, in tokens. cut: before it was complete, or an answer that never is; lost: before its content was there.
    after: tokens that the model says after completion; saved: how many of them were not generated, none of an answer that was cut."""

    stopped: bool
    cut: bool
    lost: bool
    saved: int
    after: int
    tokens: int


def stops(some: Sequence[Trace], scores: Scores, threshold: float) -> list[Stop]:
    """Each answer, ended at the first place whose score reaches the threshold."""
    return [_stop(trace, int(at[0]) if len(at) else trace.length) for trace, at in _reached(some, scores, threshold)]


def _reached(some: Sequence[Trace], scores: Scores, threshold: float) -> list[tuple[Trace, np.ndarray]]:
    return [(trace, trace.answer.at[score >= threshold]) for trace, score in zip(some, scores, strict=True)]


def _stop(trace: Trace, at: int) -> Stop:
    length, label = trace.length, trace.label
    stopped = at < length
    cut = stopped and (label.end is None or at < label.end)
    lost = stopped and (label.content is None or at < label.content)
    after = 0 if label.end is None else length - label.end
    return Stop(stopped, cut, lost, 0 if cut else length - at, after, length)


def choose(some: Sequence[Trace], scores: Scores, most_cut: float) -> float:
    """The smallest threshold that cuts at most this share of the answers."""
    worst = np.sort([_worst(trace, score) for trace, score in zip(some, scores, strict=True)])[::-1]
    allowed = int(most_cut * len(worst))
    return float(np.nextafter(worst[allowed], np.inf))


def _worst(trace: Trace, score: np.ndarray) -> float:
    """The greatest score at a place where stopping would cut."""
    end = trace.length if trace.label.end is None else min(trace.label.end, trace.length)
    wrong = score[trace.answer.at < end]
    return float(wrong.max()) if len(wrong) else -np.inf


def share_saved(done: Sequence[Stop]) -> float:
    """Tokens not generated, of those after completion."""
    return sum(stop.saved for stop in done) / max(1, sum(stop.after for stop in done))
