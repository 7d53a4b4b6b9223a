"""GGUF blocks as numbers: integer codes, a scale for each block, and a minimum where the kind has one.

Here: the layouts of block formats. Not here: reading GGUF files (pipeline/sources), what the numbers become in a package
(pipeline/coreml/compression) or in memory (runtime/backends/codes.py).
Layouts: ggml-common.h and ggml-quants.c of llama.cpp; `gguf.quants` decodes the same (compared in tests). Every kind here is an affine code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
# llama.cpp, kvalues_iq4nl.
_IQ4_NL = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.int8)


class UnknownBlocks(ValueError):
    """A kind whose layout is not here."""


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
    """rows: uint8 [N, bytes of a row] → blocks in the order of the weight. Raises UnknownBlocks, and ValueError for half a block."""
    if kind not in _KINDS:
        raise UnknownBlocks(f"{kind} blocks are unknown")
    size, read = _KINDS[kind]
    return read(rows.reshape(-1, size))


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
