"""Random tensors. Source of the semantics: coremltools ops/defs/iOS15/random.py.

The same seed gives the same numbers here, in every run; a device draws others of the same distribution. A seed below zero, "any" in the
documentation, is one more seed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from runtime.mil.budget import affordable
from runtime.mil.ops.registry import Ints, operation

_PROOF = "ops/test_random.py::test_distributions"


@operation("random_normal", proof=_PROOF)
def random_normal(shape: Ints, mean: float = 0.0, stddev: float = 1.0, seed: int = -1) -> Tensor:
    return torch.randn(affordable(*shape), generator=_generator(seed)) * stddev + mean


@operation("random_uniform", proof=_PROOF)
def random_uniform(shape: Ints, low: float = 0.0, high: float = 1.0, seed: int = -1) -> Tensor:
    return torch.rand(affordable(*shape), generator=_generator(seed)) * (high - low) + low


@operation("random_bernoulli", proof=_PROOF)
def random_bernoulli(shape: Ints, prob: float = 0.5, seed: int = -1) -> Tensor:
    """1 with probability `prob`, else 0."""
    return (torch.rand(affordable(*shape), generator=_generator(seed)) < prob).float()


@operation("random_categorical", proof=_PROOF, mode=frozenset({"logits", "probs"}))
def random_categorical(x: Tensor, mode: str = "logits", size: int = 1, seed: int = -1) -> Tensor:
    """x: [..., classes] → [..., size]: classes drawn by their weights."""
    affordable(*x.shape[:-1], size)
    weights = torch.softmax(x, -1) if mode == "logits" else x
    drawn = torch.multinomial(weights.reshape(-1, x.shape[-1]), size, replacement=True, generator=_generator(seed))
    return drawn.reshape(*x.shape[:-1], size)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed % (1 << 32))
