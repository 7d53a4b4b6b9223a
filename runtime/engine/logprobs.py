"""What the model thought of the tokens it chose: log-probabilities of each, and of the likeliest beside it.

Here: the numbers, of the model's own distribution: before temperature, filters, penalties and masks. Not here: choosing a token (sampling.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]


def log_probabilities(logits: NDArray[np.float32]) -> Scores:
    """Log-softmax. logits: [V] fp32; returns [V] fp64."""
    shifted = logits.astype(np.float64) - np.max(logits)
    scores: Scores = shifted - np.log(np.exp(shifted).sum())
    return scores


@dataclass(frozen=True)
class Chosen:
    """A chosen token with its natural log-probability, and the likeliest tokens with theirs, best first."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]

    @classmethod
    def of(cls, scores: Scores, token: int, count: int) -> Chosen:
        """scores: [V]; count: how many of the likeliest; of equals the lowest id comes first."""
        best = np.argpartition(-scores, count - 1)[:count] if 0 < count < len(scores) else np.arange(len(scores) if count else 0)
        order = best[np.lexsort((best, -scores[best]))]
        return cls(token, float(scores[token]), tuple((int(i), float(scores[i])) for i in order))
