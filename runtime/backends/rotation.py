"""The tables of rotary positions without torch, as backend `eager` takes them.

Here: runtime/student/rope.py in numpy. Not here: why tables, and what is done with them (there). The two may be a unit in the last place apart,
because torch's power is not always the nearest number; angles are then rounded alike.
"""

from __future__ import annotations

import math

import numpy as np

from interlock.contracts.checkpoint import Arch, RopeScaling
from runtime.kernels.products import Floats


def rotation_tables(arch: Arch) -> tuple[Floats, Floats]:
    """cos and sin, each fp32 [max_position, d_head / 2]."""
    angles = np.arange(arch.max_position, dtype=np.float32)[:, None] * _frequencies(arch)
    return np.cos(angles), np.sin(angles)


def _frequencies(arch: Arch) -> Floats:
    """Radians per position for each pair, fp32 [d_head / 2], after scaling."""
    exponents = np.arange(0, arch.d_head, 2, dtype=np.float32) / np.float32(arch.d_head)
    plain: Floats = np.float32(1) / np.power(np.float64(arch.rope_theta), exponents.astype(np.float64)).astype(np.float32)
    if arch.rope_scaling is None:
        return plain
    if arch.rope_scaling.kind == "linear":
        plain /= np.float32(arch.rope_scaling.factor)
        return plain
    return _llama3(plain, arch.rope_scaling)


def _llama3(plain: Floats, scaling: RopeScaling) -> Floats:
    low, high, trained, factor = (
        np.float32(value or math.nan)  # RopeScaling refuses an incomplete llama3
        for value in (scaling.low_freq_factor, scaling.high_freq_factor, scaling.original_max_position, scaling.factor)
    )
    waves = np.float32(2 * math.pi) / plain
    smooth = (trained / waves - low) / (high - low)
    blended: Floats = (1 - smooth) * plain / factor + smooth * plain
    return np.where(waves > trained / low, plain / factor, np.where(waves < trained / high, plain, blended))
