"""What a loss returns: a sum over tokens, and over how many. And what a micro batch returns: several of them, by name.

Here: adding and weighing. Not here: formulas of losses, schedules of weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

# The label of a token that is not supervised: torch's own `ignore_index`.
IGNORED = -100


@dataclass(frozen=True)
class TokenSum:
    """total: fp32 [], the sum over supervised tokens, with its graph; count: int64 [], how many they are (a tensor: reading it would make the
    processor wait for the accelerator)."""

    total: Tensor
    count: Tensor

    def __add__(self, other: TokenSum) -> TokenSum:
        return TokenSum(self.total + other.total, self.count + other.count)


@dataclass(frozen=True)
class LossParts:
    """The losses of one micro batch (or of several, added) by name, and the weight of each. Parts may be of different tokens: slots, answers."""

    sums: Mapping[str, TokenSum]
    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        if unweighted := sorted(set(self.sums) - set(self.weights)):
            raise ValueError(f"loss {unweighted[0]!r} has no weight")

    def objective(self, counts: Mapping[str, Tensor | int] | None = None) -> Tensor:
        """Σ weight · total / count, fp32 []: what to call `backward` on.

        `counts`: the supervised tokens of each part in the whole optimizer step, over all micro batches and ranks; None: this is the whole step. The
        objectives of the micro batches then add up to that of the step. Where ranks average their gradients (DDP), multiply by their number. A part
        without tokens adds nothing, but stays in the graph: its parameters get a gradient of zero and no rank waits for another.
        """
        terms = [self.weights[name] * part.total / _at_least_one((counts or {}).get(name, part.count)) for name, part in self.sums.items()]
        return torch.stack(terms).sum()

    def __add__(self, other: LossParts) -> LossParts:
        """Of two micro batches with the same weights; a part that one of them lacks is the other's. Raises ValueError where a weight differs."""
        for name in self.weights.keys() & other.weights.keys():
            if self.weights[name] != other.weights[name]:
                raise ValueError(f"loss {name!r} weighs {self.weights[name]} and {other.weights[name]}: parts of different steps do not add up")
        sums = dict(self.sums)
        for name, part in other.sums.items():
            sums[name] = sums[name] + part if name in sums else part
        return LossParts(sums, {**self.weights, **other.weights})

    def means(self) -> dict[str, float]:
        """The mean per token of every part that has tokens, for people. Waits for the accelerator."""
        return {name: part.total.item() / part.count.item() for name, part in self.sums.items() if part.count.item()}


def _at_least_one(count: Tensor | int) -> Tensor | int:
    return count.clamp(min=1) if isinstance(count, Tensor) else max(count, 1)
