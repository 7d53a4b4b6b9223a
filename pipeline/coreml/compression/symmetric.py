"""Symmetric integer codes, a scale for each block of a row: the arithmetic that a conversion and a training share.

Here: codes and scales of fp32 tensors, and the values that they stand for. Not here: storing them (linear.py), learning under them
(pipeline/training/quantization.py).
Every step is rounded to fp16, as numpy does it in coremltools optimize/_utils.py, quantize_weight_by_dtype (`linear_symmetric`).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Bits = Literal[4, 8]
# Elements per scale where nobody says otherwise, 0: one for a row. int4: coremltools' preset. int8 per row, its preset, leaves SmolLM2's greatest KL
# at 0.15, because one outlier costs all of its row; blocks of 64 leave 0.02, for 2 % more bytes.
INT4_BLOCK, INT8_BLOCK = 32, 64


def block_size(columns: int, block: int) -> int:
    """Elements per scale of a row: all of it for 0, and where `block` does not divide it."""
    return block if block and columns % block == 0 else columns


def codes(blocks: Tensor, bits: Bits) -> tuple[Tensor, Tensor]:
    """blocks: fp32 [N, B, size] of values that fp16 holds; overwritten → whole numbers from -top to top, fp32 of the same shape, and scales, fp16
    [N, B]. A block of zeros has scale 0, and its codes are 0."""
    top = (1 << (bits - 1)) - 1
    greatest = blocks.abs().amax(dim=2)
    # coremltools: (max - min) / (q_max - q_min), each step in fp16
    steps = ((2 * greatest).half().float() / (2 * top)).half()
    ratio = blocks.div_(steps.float().unsqueeze(2)).half().float()
    # adding 0 takes the sign off zeros, which no integer has
    return ratio.nan_to_num_(nan=0.0).round_().clamp_(-top, top).add_(0.0), steps


def stored(weight: Tensor, bits: Bits, block: int) -> Tensor:
    """weight: [N, K], rounded to fp16 first as a conversion does it → fp32 [N, K], the values that a package has for it, each of which fp16 holds."""
    rows, columns = weight.shape
    size = block_size(columns, block)
    whole, steps = codes(weight.detach().half().float().reshape(rows, -1, size), bits)
    # a product of a code of 8 bits and a scale of 11 is exact in fp32
    return whole.mul_(steps.float().unsqueeze(2)).half().float().reshape(rows, columns)


def fixed(weight: Tensor, bits: Bits, block: int) -> Tensor:
    """As `stored`, but a fixed point of it: storing it again changes no bit.

    The greatest value of a block becomes fp16(top · scale), and the scale that is found for that is another by one step of fp16 where the product was
    rounded by more than half of `top` steps: of int4 in one block of ten. The product of that other scale is rounded by less.
    """
    return stored(stored(weight, bits, block), bits, block)
