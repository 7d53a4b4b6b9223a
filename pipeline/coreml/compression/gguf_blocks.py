"""GGUF blocks as constexpr operations: a checkpoint's own quantisation, carried instead of made again.

Here: the layouts of block formats and the form of each. Not here: reading GGUF files (pipeline/sources), finding a weight in a package (rewrite.py).
Layouts: ggml-common.h and ggml-quants.c of llama.cpp; `gguf.quants` decodes the same (compared in tests). Every kind here is an affine code:

    weight = scale · (code - zero)   with an integer zero: Q4_0, Q5_0, Q8_0, Q6_K, IQ4_NL. Codes and scales of the first three are kept exactly.
    weight = scale · code + minimum  Q4_1, Q5_1, Q4_K, Q5_K: the minimum becomes an offset, rounded to fp16.

Codes are centred so that offsets lie near 0, where fp16 is finest (Q4_1 in uint4 would lose 8 dB).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.coreml.compression.stored import Form, shift_scale
from runtime.mil.program import DataType

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
# Below this the form is another weight, not a rounded one: fp16 itself keeps 73 dB. K-quants lie near 65 to 71.
MIN_SNR_DB = 60.0
# llama.cpp, kvalues_iq4nl.
_IQ4_NL = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.int8)


class NoForm(ValueError):
    """Blocks that no constexpr operation keeps; the text says why."""


@dataclass(frozen=True)
class Affine:
    """Blocks decoded: weight = scale · code + minimum, the minimum 0 where there is none.

    codes: int16 [blocks, size]; scale, minimum: fp32 [blocks, 1]; bits: of the type that codes are stored in once centred.
    """

    codes: NDArray[Any]
    scale: Floats
    minimum: Floats | None
    bits: int

    def values(self) -> Floats:
        """fp32 [blocks, size], in the order of operations of `gguf.quants`."""
        product = self.codes.astype(np.float32)
        product *= self.scale
        if self.minimum is not None:
            product += self.minimum
        return product


def decode(kind: str, rows: Bytes) -> Affine:
    """rows: uint8 [N, bytes of a row] → blocks in the order of the weight. Raises NoForm for a kind that has none."""
    if kind not in _KINDS:
        raise NoForm(f"{kind} blocks have no form in a package")
    size, read = _KINDS[kind]
    return read(rows.reshape(-1, size))


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


def _half(blocks: Bytes, at: int) -> Floats:
    """The fp16 number at a byte of every block: fp32 [blocks, 1]."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view(np.float16).astype(np.float32)


def _nibbles(packed: Bytes) -> NDArray[Any]:
    """[n, b] bytes → [n, 2b]: all low halves, then all high ones."""
    return np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.int16)


def _fifth_bits(packed: Bytes) -> NDArray[Any]:
    """[n, 4] bytes → [n, 32]: bit j of the word, as 16 or 0."""
    return (np.unpackbits(packed, axis=1, bitorder="little").astype(np.int16)) << 4


def _q4_0(blocks: Bytes) -> Affine:
    return Affine(_nibbles(blocks[:, 2:]) - 8, _half(blocks, 0), None, 4)


def _q4_1(blocks: Bytes) -> Affine:
    return Affine(_nibbles(blocks[:, 4:]), _half(blocks, 0), _half(blocks, 2), 4)


def _q5_0(blocks: Bytes) -> Affine:
    return Affine((_nibbles(blocks[:, 6:]) | _fifth_bits(blocks[:, 2:6])) - 16, _half(blocks, 0), None, 8)


def _q5_1(blocks: Bytes) -> Affine:
    return Affine(_nibbles(blocks[:, 8:]) | _fifth_bits(blocks[:, 4:8]), _half(blocks, 0), _half(blocks, 2), 5)


def _q8_0(blocks: Bytes) -> Affine:
    return Affine(np.ascontiguousarray(blocks[:, 2:]).view(np.int8).astype(np.int16), _half(blocks, 0), None, 8)


def _iq4_nl(blocks: Bytes) -> Affine:
    return Affine(_IQ4_NL[_nibbles(blocks[:, 2:])].astype(np.int16), _half(blocks, 0), None, 8)


def _k_scales(packed: Bytes) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The eight 6-bit scales and minima in 12 bytes: [n, 8] each."""
    low, middle, high = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = np.concatenate([low & 63, (high & 15) | ((low >> 2) & 48)], axis=1)
    return scales, np.concatenate([middle & 63, (high >> 4) | ((middle >> 2) & 48)], axis=1)


def _k_affine(blocks: Bytes, codes: NDArray[Any], bits: int) -> Affine:
    scales, minima = _k_scales(blocks[:, 4:16])
    scale, minimum = _half(blocks, 0) * scales.astype(np.float32), _half(blocks, 2) * minima.astype(np.float32)
    return Affine(codes.reshape(-1, 32), scale.reshape(-1, 1), -minimum.reshape(-1, 1), bits)


def _q4_k(blocks: Bytes) -> Affine:
    pairs = blocks[:, 16:].reshape(-1, 4, 1, 32) >> np.array([0, 4], np.uint8).reshape(1, 1, 2, 1) & 15
    return _k_affine(blocks, pairs.astype(np.int16), 4)


def _q5_k(blocks: Bytes) -> Affine:
    pairs = blocks[:, 48:].reshape(-1, 4, 1, 32) >> np.array([0, 4], np.uint8).reshape(1, 1, 2, 1) & 15
    fifth = blocks[:, 16:48].reshape(-1, 1, 32) >> np.arange(8, dtype=np.uint8).reshape(1, 8, 1) & 1
    return _k_affine(blocks, pairs.reshape(-1, 8, 32).astype(np.int16) | (fifth.astype(np.int16) << 4), 5)


def _q6_k(blocks: Bytes) -> Affine:
    low = blocks[:, :128].reshape(-1, 2, 1, 64) >> np.array([0, 4], np.uint8).reshape(1, 1, 2, 1) & 15
    high = blocks[:, 128:192].reshape(-1, 2, 1, 32) >> np.array([0, 2, 4, 6], np.uint8).reshape(1, 1, 4, 1) & 3
    codes = low.reshape(-1, 256).astype(np.int16) | (high.reshape(-1, 256).astype(np.int16) << 4)
    scales = np.ascontiguousarray(blocks[:, 192:208]).view(np.int8).astype(np.float32)
    return Affine(codes.reshape(-1, 16) - 32, (_half(blocks, 208) * scales).reshape(-1, 1), None, 8)


# Bytes of a block, and its reader. Codes of five bits are stored in eight: the format has no type between.
_KINDS: dict[str, tuple[int, Callable[[Bytes], Affine]]] = {
    "Q4_0": (18, _q4_0),
    "Q4_1": (20, _q4_1),
    "Q5_0": (22, _q5_0),
    "Q5_1": (24, _q5_1),
    "Q8_0": (34, _q8_0),
    "IQ4_NL": (18, _iq4_nl),
    "Q4_K": (144, _q4_k),
    "Q5_K": (176, _q5_k),
    "Q6_K": (210, _q6_k),
}
