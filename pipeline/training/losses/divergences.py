"""Divergences between two distributions given as log-probabilities.

Here: formulas per row. Not here: logits, temperature, stored teachers, sums (distillation.py). Every function takes student and teacher as fp32
[n, C], rows that sum to 1 as probabilities, and returns [n] ≥ 0 in nats, 0 where they are equal. A class of probability 0 (-inf) on the left side of
a Kullback-Leibler divergence adds nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

Divergence = Callable[[Tensor, Tensor], Tensor]


def forward_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher ‖ student) = Σ t (log t - log s): covers every mode of the teacher (Hinton et al. 2015, arXiv:1503.02531)."""
    return _kl(teacher, student)


def reverse_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(student ‖ teacher) = Σ s (log s - log t): seeks a mode (Gu et al. 2023, arXiv:2306.08543)."""
    return _kl(student, teacher)


def generalised_jsd(student: Tensor, teacher: Tensor, beta: float) -> Tensor:
    """β KL(teacher ‖ m) + (1-β) KL(student ‖ m) with m = β teacher + (1-β) student, 0 < β < 1: equation 1 of GKD (arXiv:2306.13649).

    Raises ValueError at 0 and 1, where this formula is 0 for any pair: TRL names the two directions of KL there, and so does `divergence`.
    """
    if not 0 < beta < 1:
        raise ValueError(f"beta is {beta}: between 0 and 1, which are forward and reverse KL")
    mixture = torch.logaddexp(teacher + math.log(beta), student + math.log1p(-beta))
    return beta * _kl(teacher, mixture) + (1 - beta) * _kl(student, mixture)


def divergence(beta: float) -> Divergence:
    """By one number, as in TRL's GKDTrainer: 0 forward KL, 1 reverse KL, between them the generalised Jensen-Shannon divergence."""
    ends = {0.0: forward_kl, 1.0: reverse_kl}
    return ends[beta] if beta in ends else partial(generalised_jsd, beta=beta)


def _kl(left: Tensor, right: Tensor) -> Tensor:
    # A difference of two -inf is NaN, and so is its gradient: it must not be taken at all.
    there = left > -math.inf
    difference = torch.where(there, left, 0) - torch.where(there, right, 0)
    return (left.exp() * difference).sum(-1)
