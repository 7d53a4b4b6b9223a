"""Two models at the same tokens: what each thinks of every one, and how far their probabilities are apart.

Here: the numbers. Not here: which tokens these are (parity.py: an answer; reading.py: a text), figures of them (scoring).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.backends.protocol import Backend, Step, Vector

PIECE = 32  # tokens whose logits are in memory at once: 6 MB of a vocabulary of 49,152


def compared(ours: Backend[Any], theirs: Backend[Any], ids: Sequence[int], tokens: Sequence[int]) -> dict[str, tuple[float, ...]]:
    """Per token: `kl`, KL(theirs ‖ ours) in nats; `same_top`, 1.0 where both find the same token most likely; `p_change`, of the token's probability;
    `nll` and `nll_against`, minus the logarithm of the probability that each gives it.

    The softmax is in fp64; numbers are kept to nine significant digits, so that they print the same everywhere.
    """
    found: dict[str, list[float]] = {name: [] for name in ("kl", "same_top", "p_change", "nll", "nll_against")}
    for token, our, their in zip(tokens, _steps(ours, ids, tokens), _steps(theirs, ids, tokens), strict=True):
        log_ours, log_theirs = _log_softmax(our.logits), _log_softmax(their.logits)
        found["kl"].append(_short(float(np.sum(np.exp(log_theirs) * (log_theirs - log_ours)))))
        found["same_top"].append(float(np.argmax(our.logits) == np.argmax(their.logits)))
        found["p_change"].append(_short(float(np.exp(log_ours[token]) - np.exp(log_theirs[token]))))
        found["nll"].append(_short(-float(log_ours[token])))
        found["nll_against"].append(_short(-float(log_theirs[token])))
    return {name: tuple(values) for name, values in found.items()}


def _steps(backend: Backend[Any], ids: Sequence[int], tokens: Sequence[int]) -> Iterator[Step]:
    """What a model says before each token."""
    if not tokens:
        return iter(())
    cache = backend.new_cache()
    first = backend.prefill(ids, cache)
    given = tokens[:-1]
    return chain([first], chain.from_iterable(backend.score(given[start : start + PIECE], cache) for start in range(0, len(given), PIECE)))


def _log_softmax(logits: Vector) -> NDArray[np.float64]:
    wide = logits.astype(np.float64)
    shifted = wide - np.max(wide)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum())
    return result


def _short(value: float) -> float:
    return float(f"{value:.9g}")
