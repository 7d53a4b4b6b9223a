"""From logits to one token id: penalty, temperature, filters, a seeded draw.

Here: numpy over one vector, so that the token loop starts without torch. Not here: which ids end a text (turn.py), masks of constrained decoding
(they set logits to -inf before this).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from interlock.errors import StageFailed, UsageError

Ids = NDArray[np.int64]
Probabilities = NDArray[np.float64]


@dataclass(frozen=True)
class SamplingParams:
    """How a token is chosen. `temperature` 0 takes the highest logit, and the filters have no effect.

    `top_k` 0, `top_p` 1 and `min_p` 0 filter nothing. Raises UsageError for a value outside its range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        ranges: tuple[tuple[str, bool, str], ...] = (
            ("temperature", 0 <= self.temperature <= 100, "from 0 to 100"),
            ("top_k", self.top_k >= 0, "0 or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0, at most 1"),
            ("min_p", 0 <= self.min_p <= 1, "from 0 to 1"),
            ("repetition_penalty", 0.01 <= self.repetition_penalty <= 100, "from 0.01 to 100"),
            ("seed", 0 <= self.seed < 1 << 63, "from 0 to 2^63 - 1"),
        )
        for name, valid, wanted in ranges:
            if not valid:  # NaN fails every comparison
                raise UsageError(f"`{name}` is {getattr(self, name)}", remedy=f"give a value {wanted}")


class Sampler:
    """One sequence's sampler: equal seeds, logits and histories give equal ids on every machine."""

    def __init__(self, params: SamplingParams) -> None:
        self.params = params
        self._random = np.random.Generator(np.random.PCG64(params.seed))

    def next(self, logits: NDArray[np.float32], history: Sequence[int]) -> int:
        """The next id. logits: [V] fp32, unchanged; history: the ids so far, prompt included (for the penalty).

        Without temperature the lowest id of the highest logit. Raises StageFailed for logits of which the highest is not finite.
        """
        if not np.isfinite(np.max(logits)):  # NaN anywhere, +inf, or everything masked
            remedy = "verify the model (`interlock verify DIR`), or run it with another backend"
            raise StageFailed("the model gave logits that are not finite", remedy=remedy)
        if self.params.temperature == 0:
            return int(np.argmax(penalized(logits, history, self.params.repetition_penalty)))  # the first of equals
        ids, probabilities = candidates(logits, history, self.params)
        total = np.cumsum(probabilities)
        place = np.searchsorted(total, self._random.random() * total[-1], side="right")
        return int(ids[min(int(place), len(ids) - 1)])


def candidates(logits: NDArray[np.float32], history: Sequence[int], params: SamplingParams) -> tuple[Ids, Probabilities]:
    """The ids that may be drawn, ascending, and their probabilities, [n] each, n ≤ V. For a temperature above 0.

    Order and rules of transformers' generate: penalty, temperature, top-k (ties with the k-th stay), top-p, min-p.
    """
    scores = penalized(logits, history, params.repetition_penalty).astype(np.float64) / params.temperature
    ids: Ids = np.arange(len(scores))
    if 0 < params.top_k < len(scores):
        ids = np.flatnonzero(scores >= np.partition(scores, -params.top_k)[-params.top_k])
    weights: Probabilities = np.exp(scores[ids] - np.max(scores))
    weights /= weights.sum()
    if params.top_p < 1:
        kept = _nucleus(weights, params.top_p)
        ids, weights = ids[kept], weights[kept]
    if params.min_p > 0:
        kept = np.flatnonzero(weights >= params.min_p * np.max(weights))
        ids, weights = ids[kept], weights[kept]
    return ids, weights / weights.sum()


def penalized(logits: NDArray[np.float32], history: Sequence[int], penalty: float) -> NDArray[np.float32]:
    """Logits of ids in `history` divided by `penalty` if positive, multiplied if not. Source: CTRL (Keskar et al. 2019, arXiv:1909.05858)."""
    if penalty == 1 or not history:
        return logits
    seen = np.unique(np.asarray(history, dtype=np.int64))
    scores: NDArray[np.float32] = logits.copy()
    scores[seen] = np.where(scores[seen] < 0, scores[seen] * penalty, scores[seen] / penalty)
    return scores


def _nucleus(weights: Probabilities, top_p: float) -> Ids:
    """Places, ascending, that remain when the least probable with a sum of at most 1 - top_p are left out.

    Source: Holtzman et al. 2020, arXiv:1904.09751.
    """
    spare = 1 - top_p
    # Whatever is below spare / n goes in any case, since n of it are below spare: the sort then has tens of values instead of a vocabulary.
    rest = np.flatnonzero(weights >= spare / len(weights))
    order = rest[np.argsort(weights[rest], kind="stable")]
    cumulative = 1 - weights[order][::-1].sum() + np.cumsum(weights[order])
    first = min(int(np.searchsorted(cumulative, spare, side="right")), len(order) - 1)
    return np.sort(order[first:])
