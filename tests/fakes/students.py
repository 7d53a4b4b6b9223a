"""Tiny architectures and students: small enough for any test, odd enough that a transposed width shows."""

from __future__ import annotations

from typing import Any

import torch

from interlock.contracts.checkpoint import Arch, ModelArch
from runtime.student.checkpoint import random_student
from runtime.student.model import Student

BOTH_HEADS = ModelArch(use_halt_head=True, use_self_evaluation=True)


def tiny_arch(**changes: Any) -> Arch:
    """Grouped queries, untied, d_model ≠ n_heads · d_head, a vocabulary that no tile divides."""
    fields = {
        "d_model": 48, "n_layers": 3, "n_heads": 4, "n_kv_heads": 2, "d_head": 16, "d_ff": 80, "vocab_size": 101,
        "rope_theta": 1e4, "norm_eps": 1e-5, "tie_embeddings": False, "max_position": 1024,
    }  # fmt: skip
    return Arch(**{**fields, **changes})


def tiny_student(heads: ModelArch = BOTH_HEADS, **changes: Any) -> Student:
    return random_student(tiny_arch(**changes), heads, seed=7).eval().requires_grad_(False)


def compressible_student(**changes: Any) -> Student:
    """Two layers, tied head. Blocks of 32 divide every width, every matrix has more than 2048 elements, and so has each RoPE table."""
    widths = {"d_model": 96, "n_layers": 2, "d_ff": 128, "vocab_size": 160, "tie_embeddings": True, "max_position": 512}
    return tiny_student(ModelArch(), **{**widths, **changes})


def some_ids(arch: Arch, *shape: int, seed: int = 0) -> torch.Tensor:
    """int64 ids of `shape`, the same for the same seed."""
    return torch.randint(0, arch.vocab_size, shape, generator=torch.Generator().manual_seed(seed))
