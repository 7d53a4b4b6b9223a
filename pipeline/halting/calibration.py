"""The threshold of a deployed halt head, measured on the deployment's own answers.

Here: figures and choice. Not here: writing them into the directory (pipeline/stages/calibrate.py).
The dialogues are the fresh ones: no shipped head was fitted on them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eval.statistics.probabilities import reliability
from interlock.contracts.deployment import HaltCalibration
from interlock.errors import StageFailed
from pipeline.halting.fit import Linear
from pipeline.halting.recipe import evidence, flat
from pipeline.halting.threshold import choose
from pipeline.halting.traces import Trace

Reliability = list[tuple[int, float, float]]


def calibration(
    some: Sequence[Trace], weight: NDArray[np.floating], bias: NDArray[np.floating], most_cut: float
) -> tuple[HaltCalibration, Reliability]:
    """The smallest threshold that cuts at most this share, with its figures. weight: [2, d]; bias: [2], rows `[continue, halt]`.

    Raises StageFailed where no answer is ever complete: there is nothing to stop.
    """
    if not any(trace.complete.any() for trace in some):
        raise StageFailed("no answer of this model is ever complete where a sentence ends", remedy="calibrate a model that answers")
    scores = Linear((weight[1] - weight[0]).astype(np.float64), float(bias[1] - bias[0])).scores(some)
    chosen = choose(some, scores, most_cut)
    z, y = flat(some, scores)
    found = HaltCalibration(
        threshold=float(np.clip(1 / (1 + np.exp(-np.clip(chosen, -30, 30))), 1e-6, 1 - 1e-6)),
        most_cut=most_cut,
        dialogues="fresh",
        answers=len(some),
        evidence=evidence(some, scores, chosen),
    )
    return found, reliability(1 / (1 + np.exp(-z)), y)
