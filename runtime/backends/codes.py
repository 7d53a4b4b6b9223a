"""Weights as integer codes with a scale per block of columns.

Here: the record, codes made from floats, several weights below each other. Not here: a source's own blocks (runtime/student/blocks.py), products on
codes (runtime/kernels), which weight is held so (held.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.kernels.products import PART, Array, Floats, single

# Columns that share a scale where codes are made here, if they divide the width: as in GGUF's Q8_0.
BLOCK = 32
TOP = 127


@dataclass(frozen=True)
class Codes:
    """value = scale · (code - offset), or where the offset is `added` scale · code + offset.

    codes: int8 or uint8 [N, K], of `bits` bits; scale: fp16 or fp32 [N, K/B]; offset: the same shape, or None.
    """

    codes: NDArray[np.int8] | NDArray[np.uint8]
    scale: Array
    offset: Array | None
    bits: int
    added: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.codes.shape)

    def values(self) -> Floats:
        """fp32 [N, K]."""
        blocks = self.codes.astype(np.float32).reshape(*self.scale.shape, -1)
        scale = self.scale.astype(np.float32)[..., None]
        if self.offset is None:
            return (blocks * scale).reshape(self.shape)
        offset = self.offset.astype(np.float32)[..., None]
        return (blocks * scale + offset if self.added else (blocks - offset) * scale).reshape(self.shape)


def rounded(weight: Array) -> Codes:
    """int8, symmetric, to the nearest, a scale in fp16 per row and 32 columns (or the whole row where 32 do not divide it). weight: fp32, fp16 or
    bf16 (as uint16) [N, K].

    Error of a weight: half a step, |max of its block| / 254, and what fp16 leaves of the scale, 2^-11 of the weight.
    """
    block = BLOCK if weight.shape[1] % BLOCK == 0 else weight.shape[1]
    codes, scales = np.empty(weight.shape, np.int8), np.empty((len(weight), weight.shape[1] // block), np.float16)
    rows = max(1, PART // weight.shape[1])
    for start in range(0, len(weight), rows):
        blocks = single(weight[start : start + rows]).reshape(-1, scales.shape[1], block)
        # the smallest normal fp16 keeps a block of zeros, or of less, from a scale of zero
        scale = (np.abs(blocks).max(2) / np.float32(TOP)).clip(np.float32(2.0**-14)).astype(np.float16)
        steps = blocks / scale.astype(np.float32)[..., None]
        codes[start : start + rows] = np.rint(steps, out=steps).clip(-TOP, TOP, out=steps).reshape(-1, weight.shape[1])
        scales[start : start + rows] = scale
    return Codes(codes, scales, None, 8)


def joined(parts: Sequence[Codes]) -> Codes:
    """Weights of one width below each other. What differs in form is brought to one that holds both: no value changes but by fp32 rounding."""
    if len(parts) == 1:
        return parts[0]
    forms = {(part.codes.dtype, part.scale.shape[1], part.scale.dtype, part.offset is None, part.added, part.bits) for part in parts}
    alike = list(parts) if len(forms) == 1 else [_widest(part, max(other.scale.shape[1] for other in parts)) for part in parts]
    offset = None if alike[0].offset is None else np.concatenate([part.offset for part in alike if part.offset is not None])
    codes, scale = (np.concatenate([getattr(part, name) for part in alike]) for name in ("codes", "scale"))
    return Codes(codes, scale, offset, alike[0].bits, alike[0].added)


def _widest(part: Codes, blocks: int) -> Codes:
    """The same in 8 bits from 0, fp32 scales and added offsets, and at least this many blocks per row."""
    times = blocks // part.scale.shape[1]
    scale = part.scale.astype(np.float32)
    offset = np.zeros_like(scale) if part.offset is None else part.offset.astype(np.float32)
    if part.offset is not None and not part.added:
        offset = -scale * offset
    zero = 128 if part.codes.dtype == np.int8 else 0
    codes = (part.codes.astype(np.int16) + zero).astype(np.uint8)
    return Codes(codes, scale.repeat(times, 1), (offset - zero * scale).repeat(times, 1), 8, added=True)
