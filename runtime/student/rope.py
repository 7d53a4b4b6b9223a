"""Rotary positions: the cos/sin tables of an architecture and how they turn query and key pairs.

Here: frequencies with their scaling, tables, rotation. Not here: who holds the tables (model.py, the backends).
The tables are computed once, in fp32, and looked up by position: angles computed inside a converted graph lose up to 0.23 in the logits at
length 4096, because they are rounded to fp16 there.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from interlock.contracts.checkpoint import Arch, RopeScaling


def rope_tables(arch: Arch) -> tuple[Tensor, Tensor]:
    """cos and sin, each [max_position, d_head / 2] fp32 on the CPU.

    Same operations in the same order as transformers' LlamaRotaryEmbedding, so that both agree to the last bit.
    """
    # An explicit device: a model that is built on the meta device still gets real tables.
    positions = torch.arange(arch.max_position, dtype=torch.float32, device="cpu")
    angles = positions[:, None] * inverse_frequencies(arch)[None, :]
    return angles.cos(), angles.sin()


def inverse_frequencies(arch: Arch) -> Tensor:
    """Radians per position for each of the d_head / 2 pairs, [d_head / 2] fp32, after scaling. Source: RoFormer §3.4 (arXiv:2104.09864)."""
    exponents = torch.arange(0, arch.d_head, 2, dtype=torch.float32, device="cpu") / arch.d_head
    frequencies = 1.0 / (arch.rope_theta**exponents)
    if arch.rope_scaling is None:
        return frequencies
    if arch.rope_scaling.kind == "linear":
        return frequencies / arch.rope_scaling.factor
    return _llama3(frequencies, arch.rope_scaling)


def _llama3(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Short waves stay, long waves are divided by `factor`, those between are blended (transformers: `_compute_llama3_parameters`)."""
    low, high, trained = scaling.low_freq_factor, scaling.high_freq_factor, scaling.original_max_position
    assert low is not None and high is not None and trained is not None  # RopeScaling refuses an incomplete llama3
    wavelengths = 2 * math.pi / frequencies
    is_long = wavelengths > trained / low
    is_short = wavelengths < trained / high
    scaled = torch.where(is_long, frequencies / scaling.factor, frequencies)
    smooth = (trained / wavelengths - low) / (high - low)
    blended = (1 - smooth) * scaled / scaling.factor + smooth * scaled
    return torch.where(~is_short & ~is_long, blended, scaled)


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate query or key pairs (half-split convention of Llama: element i turns with element i + D/2).

    x: [B, H, T, D] of any float dtype; cos, sin: [T, D/2] in the dtype of x. Returns x's shape and dtype.
    Parity with transformers' Llama: tests/runtime/student/test_model.py.
    """
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
