"""Labelled answers made of numbers: places, labels and hidden states as a test wants them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.halting.answers import Answer
from pipeline.halting.dialogues import Dialogue
from pipeline.halting.fit import Scores
from pipeline.halting.labels import Label
from pipeline.halting.traces import Trace


def trace(
    *,
    at: Sequence[int] = (1,),
    length: int = 2,
    content: int | None = None,
    end: int | None = None,
    complete: Sequence[bool] | None = None,
    ended: bool = False,
    template: str = "t",
    family: str = "capital",
    hidden: Sequence[np.ndarray] | None = None,
) -> Trace:
    """`complete` of a single place stands for `end`."""
    if complete is not None:
        end = 1 if complete[0] else None
    states = np.array(hidden if hidden is not None else np.zeros((len(at), 2)), np.float32)
    said = Answer(Dialogue(family, template, ""), ("x",) * length, ended, np.array(at, np.int32), states, np.zeros((len(at), 3), np.float32))
    return Trace(said, Label(content if content is not None else end, end, True))


def planted(answers: int, seed: int) -> tuple[list[Trace], Scores]:
    """Answers of 20 tokens with four places, complete from a random one on; a direction of the 8 features says so, with noise. And its scores."""
    chance = np.random.default_rng(seed)
    direction = chance.normal(size=8)
    direction /= np.linalg.norm(direction)
    some, scores = [], []
    for i in range(answers):
        end = [None, 5, 10, 15][chance.integers(4)]
        z = np.array([4.0 if end is not None and at >= end else -4.0 for at in (5, 10, 15, 20)]) + chance.normal(size=4) * 1.5
        hidden = z[:, None] * direction + chance.normal(size=(4, 8)) * 0.3
        some.append(trace(at=[5, 10, 15, 20], length=20, end=end, template=str(i % 20), hidden=list(hidden)))
        scores.append(z)
    return some, scores
