"""The processes of one training, or this one alone.

Here: sums over ranks. Not here: starting them (workers.py), which rows a rank gets (batches.py). Every rank has all weights and the same optimizer
state; gradients are added, and because losses are divided by counts over all ranks, their sum is the gradient of the whole batch (data parallelism as
in torch's DDP, without its hooks: a latent span runs the student several times for one backward pass, which DDP's buckets do not follow).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist


@dataclass(frozen=True)
class Ranks:
    """`rank` of `count`."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def total(self, numbers: dict[str, float]) -> dict[str, float]:
        """The sum of each number over all ranks; they all name the same ones."""
        if self.count == 1:
            return numbers
        summed = torch.tensor([numbers[name] for name in sorted(numbers)], dtype=torch.float64)
        dist.all_reduce(summed)
        return dict(zip(sorted(numbers), summed.tolist(), strict=True))

    def add_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Every rank's gradient becomes the sum of all; a parameter that took part on no rank keeps none."""
        if self.count == 1:
            return
        flat = torch.cat([(torch.zeros_like(one) if one.grad is None else one.grad).flatten() for one in parameters])
        taken = torch.tensor([float(one.grad is not None) for one in parameters])
        dist.all_reduce(flat)
        dist.all_reduce(taken)
        for one, part, any_took in zip(parameters, torch.split(flat, [one.numel() for one in parameters]), taken.tolist(), strict=True):
            one.grad = part.view_as(one) if any_took else None
