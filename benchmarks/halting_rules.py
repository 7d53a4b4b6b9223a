"""What a halt head has to beat: rules that need no head, read at the same places.

Here: scores of the rules. Not here: their thresholds and figures (halting_figures.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.halting.fit import Scores, folds, logistic
from pipeline.halting.traces import Trace, places

SIX_L2 = 1e-3


def features(trace: Trace) -> NDArray[np.float64]:
    """[K, 6] per place: log P(end), entropy, greatest probability, tokens so far, whether a sentence mark is last, whether a line has ended."""
    said = ["".join(trace.answer.pieces[:at]) for at in trace.answer.at]
    marks = [[text.rstrip()[-1:] in ".!?\"')*]", text.endswith("\n")] for text in said]
    return np.concatenate([trace.answer.signals, trace.answer.at[:, None], np.array(marks, float).reshape(-1, 2)], axis=1)


SINGLE: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "log P(end)": lambda x: x[:, 0],
    "high entropy": lambda x: x[:, 1],
    "low entropy": lambda x: -x[:, 1],
    "length": lambda x: x[:, 3],
}


def single(name: str, some: Sequence[Trace]) -> Scores:
    """One number as it is."""
    return [SINGLE[name](features(trace)) for trace in some]


def six(development: Sequence[Trace], fresh: Sequence[Trace]) -> tuple[Scores, Scores]:
    """Logistic regression on all six, out of fold for the answers that it is fitted on."""
    inside = [features(trace) for trace in development]
    fold = folds(development)
    scores: Scores = [np.empty(0)] * len(development)
    for one in sorted(set(fold)):
        head = _fit([(trace, x) for trace, x, its in zip(development, inside, fold, strict=True) if its != one])
        for i in np.flatnonzero(fold == one):
            scores[i] = head(inside[i])
    whole = _fit(list(zip(development, inside, strict=True)))
    return scores, [whole(features(trace)) for trace in fresh]


def _fit(some: Sequence[tuple[Trace, NDArray[np.float64]]]) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    x = np.concatenate([inside[places(trace)] for trace, inside in some])
    y = np.concatenate([trace.complete[places(trace)] for trace, _ in some])
    made = logistic(x, y, SIX_L2)
    return lambda inside: inside @ made.weight + made.bias
