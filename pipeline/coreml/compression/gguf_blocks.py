"""GGUF blocks as constexpr operations: a checkpoint's own quantisation, carried instead of made again.

Here: the form of each kind. Not here: their layouts (runtime/student/blocks.py), finding a weight in a package (rewrite.py).
Every kind is an affine code:

    weight = scale · (code - zero)   with an integer zero: Q4_0, Q5_0, Q8_0, Q6_K, IQ4_NL. Codes and scales of the first three are kept exactly.
    weight = scale · code + minimum  Q4_1, Q5_1, Q4_K, Q5_K: the minimum becomes an offset, rounded to fp16.

Codes are centred so that offsets lie near 0, where fp16 is finest (Q4_1 in uint4 would lose 8 dB).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.coreml.compression.stored import Form, shift_scale
from runtime.mil.program import DataType
from runtime.student.blocks import Affine, Floats

# Below this the form is another weight, not a rounded one: fp16 itself keeps 73 dB. K-quants lie near 65 to 71.
MIN_SNR_DB = 60.0


class NoForm(ValueError):
    """Blocks that no constexpr operation keeps; the text says why."""


def form_of(kind: str, blocks: Affine, values: Floats, shape: tuple[int, int]) -> Form:
    """The blocks of a weight [N, K] as an operation; values: of the blocks. Raises NoForm where it would hold another weight than the blocks do."""
    scale, codes, minimum = blocks.scale, blocks.codes, blocks.minimum
    top = 1 << (blocks.bits - 1)
    with np.errstate(over="ignore", invalid="ignore"):  # a scale or an offset beyond fp16 leaves no signal, and is refused for it
        signed, stored, offset = _symmetric(codes, scale, top) if minimum is None else _shifted(codes, scale, minimum, top)
        carried = signed.astype(np.float32)
        carried -= 0 if offset is None else offset.astype(np.float32)
        carried *= stored.astype(np.float32)
        snr = snr_db(values, carried)
    if not snr >= MIN_SNR_DB:
        raise NoForm(f"{kind} blocks in fp16 scales and offsets are {snr:.1f} dB from themselves, at least {MIN_SNR_DB:g}")
    spread = (shape[0], shape[1] // codes.shape[1])
    return shift_scale(
        f"{kind} blocks of {codes.shape[1]}",
        signed.reshape(shape),
        stored.reshape(spread),
        None if offset is None else offset.reshape(spread),
        DataType.INT4 if blocks.bits == 4 else DataType.INT8,
    )


def snr_db(reference: NDArray[Any], found: NDArray[Any]) -> float:
    """10 log10 of the energy of the reference over that of the difference, in dB; infinite when equal, minus infinite where nothing of the
    reference is left. Sums are in fp32, pairwise or blocked."""
    difference = (found - reference).reshape(-1)
    noise = float(np.dot(difference, difference))
    if not noise:
        return float("inf")
    ratio = float(np.dot(reference.reshape(-1), reference.reshape(-1))) / noise
    return 10 * float(np.log10(ratio)) if ratio else -float("inf")


def _symmetric(codes: NDArray[Any], scale: Floats, top: int) -> tuple[NDArray[Any], NDArray[np.float16], NDArray[Any] | None]:
    """Positive scales only: s·c with s < 0 is |s|·(-c), and where -c does not fit, |s|·(~c - (-1)) with the integer offset -1."""
    signed = np.where(scale == 0, 0, codes).astype(np.int16)
    stored = np.where(scale == 0, 1, np.abs(scale)).astype(np.float16)
    negative = scale[:, 0] < 0
    if not negative.any():
        return signed, stored, None
    if int(np.min(signed)) > -top:
        signed[negative] = -signed[negative]
        return signed, stored, None
    signed[negative] = ~signed[negative]
    return signed, stored, np.where(negative[:, None], -1, 0).astype(np.int8)


def _shifted(codes: NDArray[Any], scale: Floats, minimum: Floats, top: int) -> tuple[NDArray[Any], NDArray[np.float16], NDArray[np.float16]]:
    """Codes centred by `top`, the minimum as an offset in steps of the scale. A block of one value m is |m|·(0 - (-sign m))."""
    last = np.int16(np.max(codes))
    negative = scale < 0
    codes, minimum = np.where(negative, last - codes, codes), np.where(negative, minimum + scale * last, minimum)
    stored = np.abs(scale).astype(np.float16)
    flat = stored == 0
    step = np.where(flat, 1, stored.astype(np.float32))
    offset = np.where(flat, -np.sign(minimum), -minimum / step - top)
    stored = np.where(flat, np.where(minimum == 0, 1, np.abs(minimum)), stored).astype(np.float16)
    return np.where(flat, 0, codes - top).astype(np.int16), stored, offset.astype(np.float16)
