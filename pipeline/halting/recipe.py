"""From answers to a head: what is tried, what decides, and the evidence that goes into the file.

Here: the choices, all made on scores that are out of fold. Not here: the arithmetic (fit.py), counting (threshold.py), asking (answers.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from eval.statistics.clusters import ratio_interval
from eval.statistics.intervals import wilson
from eval.statistics.probabilities import auc, brier, ece
from pipeline.halting.dialogues import FAMILIES, PARTS
from pipeline.halting.fit import Linear, Scores, head_on, out_of_fold, platt
from pipeline.halting.head import Head, HeadFacts
from pipeline.halting.threshold import choose, share_saved, stops
from pipeline.halting.traces import Trace, places

L2_TRIED = (1e-3, 3e-3, 1e-2, 3e-2)
# The share of answers out of fold that the threshold may cut. Asked for is at most 1 % of answers to fresh templates as the bound of 2,600 answers
# shows it: no more than 16 of them, 0.6 %. On templates that a head has not seen it cuts up to twice its share out of fold.
MOST_CUT = 0.003


@dataclass(frozen=True)
class Fitted:
    """A head with what decided about it: `linear` and `threshold` are in log-odds, `scores` those out of fold, calibrated."""

    linear: Linear
    threshold: float
    l2: float
    scores: Scores


def fitted(some: Sequence[Trace], most_cut: float = MOST_CUT) -> Fitted:
    """The head for labelled answers. L2 by the cross-entropy out of fold; scale and shift by Platt; the threshold by what it cuts."""
    tried = {l2: out_of_fold(some, l2) for l2 in L2_TRIED}
    best = min(tried, key=lambda l2: cross_entropy(some, _calibrated(some, tried[l2])[0]))
    scores, scale, shift = _calibrated(some, tried[best])
    head = head_on(some, best)
    linear = Linear(head.weight * scale, head.bias * scale + shift)
    return Fitted(linear, choose(some, scores, most_cut), best, scores)


def _calibrated(some: Sequence[Trace], scores: Scores) -> tuple[Scores, float, float]:
    scale, shift = platt(some, scores)
    return [score * scale + shift for score in scores], scale, shift


def cross_entropy(some: Sequence[Trace], scores: Scores) -> float:
    """Mean over all places that teach, in nats."""
    z, y = flat(some, scores)
    return float(np.mean(np.logaddexp(0, z) - z * y))


def flat(some: Sequence[Trace], scores: Scores, *, hard: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Scores and truth of all places in one row; hard: without those where the model itself ends."""
    chosen = [places(trace, hard=hard) for trace in some]
    z = np.concatenate([score[at] for score, at in zip(scores, chosen, strict=True)])
    return z, np.concatenate([trace.complete[at] for trace, at in zip(some, chosen, strict=True)])


def evidence(some: Sequence[Trace], scores: Scores, threshold: float) -> dict[str, float]:
    """The figures of a head on labelled answers; `_low` and `_high` are 95 % bounds, of shares saved by template."""
    done = stops(some, scores, threshold)
    cut = sum(stop.cut for stop in done)
    saved = ratio_interval([trace.template for trace in some], [stop.saved for stop in done], [stop.after for stop in done])
    z, y = flat(some, scores)
    probability = 1 / (1 + np.exp(-z))
    found = {
        "answers": len(some),
        "templates": len({trace.template for trace in some}),
        "cut": cut / len(some),
        "cut_high": wilson(cut, len(some), 0.95).high,
        "saved": share_saved(done),
        "saved_low": saved[0],
        "saved_high": saved[1],
        "saved_of_all_tokens": sum(stop.saved for stop in done) / sum(stop.tokens for stop in done),
        "auc": auc(z, y),
        "auc_without_own_ends": auc(*flat(some, scores, hard=True)),
        "brier": brier(probability, y),
        "ece": ece(probability, y),
    }
    return {name: float(f"{value:.4g}") for name, value in found.items()}


def head_of(made: Fitted, some: Sequence[Trace], backbone: str) -> Head:
    """The head as it is written: rows [-z/2, +z/2]."""
    weight = torch.from_numpy(np.stack([-made.linear.weight, made.linear.weight]) / 2).float()
    bias = torch.tensor([-made.linear.bias / 2, made.linear.bias / 2], dtype=torch.float32)
    facts = HeadFacts(
        backbone=backbone,
        threshold=float(f"{1 / (1 + math.exp(-made.threshold)):.6g}"),
        knows=FAMILIES,
        seed=PARTS["development"][0][1],
        answers=len(some),
        l2=made.l2,
        evidence=evidence(some, made.scores, made.threshold),
    )
    return Head(weight, bias, facts)
