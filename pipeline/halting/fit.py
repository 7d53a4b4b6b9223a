"""A linear head fitted on labelled answers, its scores out of fold, its calibration.

Here: the arithmetic. Not here: the threshold (threshold.py), which labels (traces.py), the file (head.py).
Fitted and read at sentence and line ends only: fitted at all positions, most of the head's capacity goes to finding such ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.halting.traces import Trace, places, taught, weights

FOLDS = 5
# Newton's method takes about ten steps; smaller ones than TINY change no fp32 weight.
MOST_STEPS, TINY = 100, 1e-9
Scores = list[NDArray[np.float64]]


@dataclass(frozen=True)
class Linear:
    """z = weight · hidden + bias; weight: [d] fp64."""

    weight: NDArray[np.float64]
    bias: float

    def scores(self, some: Sequence[Trace]) -> Scores:
        """z of each place of each trace."""
        return [trace.answer.hidden @ self.weight + self.bias for trace in some]


def logistic(x: NDArray[np.floating[Any]], y: NDArray[Any], l2: float, weigh: NDArray[np.float64] | None = None) -> Linear:
    """The minimum of mean cross-entropy + l2/2 · |w|² over standardised features, folded back to features as they are. x: [N, d]; y: [N] in 0 … 1;
    weigh: [N], how much each counts in the mean (all the same without).

    Newton's method in fp64 from zero, steps halved where they overshoot: the same for the same input. (torch.optim would import a compiler first.)
    """
    features, target = np.asarray(x, np.float64), np.asarray(y, np.float64)
    mean, deviation = features.mean(0), np.maximum(features.std(0, ddof=1), 1e-4)
    standard = np.concatenate([(features - mean) / deviation, np.ones((len(features), 1))], axis=1)
    penalty = np.append(np.full(features.shape[1], l2), 0.0)  # the bias is free
    counts = np.ones(len(target)) if weigh is None else weigh
    w = _minimised(standard, target, penalty, counts / counts.sum())
    weight = w[:-1] / deviation
    return Linear(weight, float(w[-1] - mean @ weight))


def _minimised(x: NDArray[np.float64], y: NDArray[np.float64], penalty: NDArray[np.float64], share: NDArray[np.float64]) -> NDArray[np.float64]:
    def loss(w: NDArray[np.float64]) -> float:
        z = x @ w
        return float(share @ (np.logaddexp(0, z) - y * z) + penalty @ (w * w) / 2)

    w = np.zeros(x.shape[1])
    value = loss(w)
    for _ in range(MOST_STEPS):
        p = 1 / (1 + np.exp(-(x @ w)))
        slope = x.T @ (share * (p - y)) + penalty * w
        curve = (x.T * (share * p * (1 - p))) @ x + np.diag(penalty + 1e-12)
        step = np.linalg.solve(curve, slope)
        while (after := loss(w - step)) > value and np.abs(step).max() > TINY:
            step = step / 2
        w, value = w - step, after
        if np.abs(step).max() <= TINY:
            break
    return w


def head_on(some: Sequence[Trace], l2: float) -> Linear:
    """A head for labelled answers, each place weighed by what a mistake costs there."""
    return logistic(*taught(some), l2, weights(some))


def folds(some: Sequence[Trace]) -> NDArray[np.int64]:
    """The fold of each trace: templates are dealt out in order of appearance, so that a fold has every family and shares no template."""
    order = {template: i % FOLDS for i, template in enumerate(dict.fromkeys(trace.template for trace in some))}
    return np.array([order[trace.template] for trace in some])


def out_of_fold(some: Sequence[Trace], l2: float) -> Scores:
    """Scores of each trace by a head that never saw its template."""
    fold = folds(some)
    scores: Scores = [np.empty(0)] * len(some)
    for one in range(FOLDS):
        head = head_on([trace for trace, its in zip(some, fold, strict=True) if its != one], l2)
        for i in np.flatnonzero(fold == one).tolist():
            scores[i] = head.scores([some[i]])[0]
    return scores


def platt(some: Sequence[Trace], scores: Scores) -> tuple[float, float]:
    """Scale and shift that turn scores out of fold into log-odds. Source: Platt 1999, his targets (n + 1)/(n + 2) and 1/(m + 2) of n complete and
    m other places, so that they are finite where scores separate the two."""
    z = np.concatenate([score[places(trace)] for trace, score in zip(some, scores, strict=True)])
    y = np.concatenate([trace.complete[places(trace)] for trace in some])
    n, m = int(y.sum()), int((~y).sum())
    head = logistic(z[:, None], np.where(y, (n + 1) / (n + 2), 1 / (m + 2)), 0.0)
    return float(head.weight[0]), head.bias
