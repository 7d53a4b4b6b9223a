"""Labelled answers as arrays, at the places where a head may be obeyed.

Here: which places teach, which are judged. Not here: labels (labels.py), scores (fit.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from eval.statistics.probabilities import Bools
from pipeline.halting.answers import Answer
from pipeline.halting.labels import Label, label

# Chosen out of fold, like everything else: they raise what is saved at few cuts by a few points.
TOO_EARLY, OWN_END = 3.0, 0.2


@dataclass(frozen=True)
class Trace:
    """One answer of `length` tokens with its label. All arrays have one element for each place of `answer.at`."""

    answer: Answer
    label: Label

    @property
    def template(self) -> str:
        return self.answer.dialogue.template

    @property
    def family(self) -> str:
        return self.answer.dialogue.family

    @property
    def length(self) -> int:
        return len(self.answer.pieces)

    @cached_property
    def complete(self) -> Bools:
        end = self.length + 1 if self.label.end is None else self.label.end
        return np.asarray(self.answer.at >= end, bool)

    @cached_property
    def natural(self) -> Bools:
        """Where the model itself ends: nothing is saved there."""
        return np.asarray((self.answer.at == self.length) & self.answer.ended, bool)

    @cached_property
    def teaches(self) -> Bools:
        """Where the model ends an answer that lacks something there is nothing to learn: it would end whatever the head says."""
        return ~self.natural | self.complete


def traces(answers: Iterable[Answer]) -> list[Trace]:
    """Every answer with its label."""
    return [Trace(answer, label(answer.dialogue, answer.pieces, answer.ended)) for answer in answers]


def taught(some: Sequence[Trace], *, hard: bool = False) -> tuple[NDArray[np.float32], Bools]:
    """Hidden states [N, d] and targets [N] of all places that teach; hard: without those where the model itself ends."""
    chosen = [places(trace, hard=hard) for trace in some]
    hidden = np.concatenate([trace.answer.hidden[at] for trace, at in zip(some, chosen, strict=True)])
    return hidden, np.concatenate([trace.complete[at] for trace, at in zip(some, chosen, strict=True)])


def weights(some: Iterable[Trace]) -> NDArray[np.float64]:
    """[N] for the places of `taught`: stopping too early costs more than not stopping, and where the model itself ends nothing can be saved."""
    return np.concatenate([np.where(trace.complete, np.where(trace.natural, OWN_END, 1.0), TOO_EARLY)[places(trace)] for trace in some])


def places(trace: Trace, *, hard: bool = False) -> Bools:
    """Which places of a trace are fitted and calibrated on."""
    return trace.teaches & ~trace.natural if hard else trace.teaches
