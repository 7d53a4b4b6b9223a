"""`parity`: the same question to two models, and both models' probabilities along the same tokens.

Here: both answers, and three numbers per position: the divergence in nats, whether the most likely token is the same, and by how much the
probability of the token changes. Not here: figures of them (scoring/parity.py).
Positions are those of the tokens that the second model chose (its answer is the truth that the first one is compared with), the first after the
prompt included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.answers import Answered
from eval.asking import Ask, Settings
from eval.items import Item
from eval.runners.deployment import answered, generated, ids_of
from interlock.errors import UsageError
from runtime.backends.protocol import Backend, Vector
from runtime.load import load


def opened(settings: Settings) -> Ask:
    """Raises UsageError where there is no second model, or one of another tokenizer."""
    if settings.against is None:
        raise UsageError("suite `parity` compares two models and was given one", remedy="name the other with --against or --against-backend")
    ours, theirs = (load(one.directory, one.backend, mode=one.mode) for one in (settings.model, settings.against))
    if ours.info.sha256 != theirs.info.sha256:
        raise UsageError("the two models have different tokenizers: their tokens cannot be compared", remedy="name another build of the same student")

    def ask(item: Item) -> dict[str, Answered]:
        ids = ids_of(theirs, item)
        said = generated(theirs, item, ids, settings.max_new_tokens)
        kl, same, change = along(ours.backend, theirs.backend, ids, said.tokens)
        mine = said if all(same) else generated(ours, item, ids, settings.max_new_tokens)
        numbers = {"kl": kl, "same_top": same, "p_change": change}
        return {"text": replace(answered(mine), numbers=numbers), "against": answered(said)}

    return ask


def along(ours: Backend[Any], theirs: Backend[Any], ids: Sequence[int], tokens: Sequence[int]) -> tuple[tuple[float, ...], ...]:
    """Per token: KL(theirs ‖ ours) in nats, 1.0 where both find the same token most likely, and the change of the token's probability. The softmax
    is in fp64; numbers are kept to nine significant digits, so that they print the same everywhere."""
    kl, same, change = [], [], []
    caches = ours.new_cache(), theirs.new_cache()
    steps = ours.prefill(ids, caches[0]), theirs.prefill(ids, caches[1])
    for place, token in enumerate(tokens):
        log_ours, log_theirs = (_log_softmax(step.logits) for step in steps)
        kl.append(_short(float(np.sum(np.exp(log_theirs) * (log_theirs - log_ours)))))
        same.append(float(np.argmax(steps[0].logits) == np.argmax(steps[1].logits)))
        change.append(_short(float(np.exp(log_ours[token]) - np.exp(log_theirs[token]))))
        if place + 1 < len(tokens):
            steps = ours.decode(token, caches[0]), theirs.decode(token, caches[1])
    return tuple(kl), tuple(same), tuple(change)


def _log_softmax(logits: Vector) -> NDArray[np.float64]:
    wide = logits.astype(np.float64)
    shifted = wide - np.max(wide)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum())
    return result


def _short(value: float) -> float:
    return float(f"{value:.9g}")
