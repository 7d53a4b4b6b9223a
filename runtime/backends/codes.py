"""Weights as integer codes with a scale per block of columns.

Here: the record, codes made from floats, several weights below each other. Not here: a source's own blocks (runtime/student/blocks.py), products on
codes (runtime/kernels), which weight is held so (held.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Columns that share a scale where codes are made here, if they divide the width: as in GGUF's Q8_0.
BLOCK = 32
TOP = 127


@dataclass(frozen=True)
class Codes:
    """value = scale · (code - offset), or where the offset is `added` scale · code + offset.

    codes: int8 or uint8 [N, K], of `bits` bits; scale: fp16 or fp32 [N, K/B]; offset: the same shape, or None.
    """

    codes: Tensor
    scale: Tensor
    offset: Tensor | None
    bits: int
    added: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.codes.shape)

    def values(self) -> Tensor:
        """fp32 [N, K]."""
        blocks = self.codes.float().view(*self.scale.shape, -1)
        scale = self.scale.float()[..., None]
        if self.offset is None:
            return (blocks * scale).view(self.shape)
        offset = self.offset.float()[..., None]
        return (blocks * scale + offset if self.added else (blocks - offset) * scale).view(self.shape)


def rounded(weight: Tensor) -> Codes:
    """int8, symmetric, to the nearest, a scale in fp16 per row and 32 columns (or the whole row where 32 do not divide it). weight: any float [N, K].

    Error of a weight: half a step, |max of its block| / 254, and what fp16 leaves of the scale, 2^-11 of the weight.
    """
    block = BLOCK if weight.shape[1] % BLOCK == 0 else weight.shape[1]
    blocks = weight.float().view(len(weight), -1, block)
    # the smallest normal fp16 keeps a block of zeros, or of less, from a scale of zero
    scale = (blocks.abs().amax(2) / TOP).clamp_min(2.0**-14).half()
    codes = (blocks / scale.float()[..., None]).round_().clamp_(-TOP, TOP).to(torch.int8)
    return Codes(codes.view(weight.shape), scale, None, 8)


def joined(parts: Sequence[Codes]) -> Codes:
    """Weights of one width below each other. What differs in form is brought to one that holds both: no value changes but by fp32 rounding."""
    forms = {(part.codes.dtype, part.scale.shape[1], part.scale.dtype, part.offset is None, part.added, part.bits) for part in parts}
    alike = list(parts) if len(forms) == 1 else [_widest(part, max(other.scale.shape[1] for other in parts)) for part in parts]
    offset = None if alike[0].offset is None else torch.cat([part.offset for part in alike if part.offset is not None])
    return Codes(torch.cat([part.codes for part in alike]), torch.cat([part.scale for part in alike]), offset, alike[0].bits, alike[0].added)


def _widest(part: Codes, blocks: int) -> Codes:
    """The same in 8 bits from 0, fp32 scales and added offsets, and at least this many blocks per row."""
    times = blocks // part.scale.shape[1]
    scale = part.scale.float()
    offset = torch.zeros_like(scale) if part.offset is None else part.offset.float()
    if part.offset is not None and not part.added:
        offset = -scale * offset
    zero = 128 if part.codes.dtype is torch.int8 else 0
    codes = (part.codes.short() + zero).to(torch.uint8)
    return Codes(codes, scale.repeat_interleave(times, 1), (offset - zero * scale).repeat_interleave(times, 1), 8, added=True)
