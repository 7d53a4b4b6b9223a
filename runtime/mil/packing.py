"""Numbers of fewer than eight bits, packed from the lowest bit of the first byte up.

Here: packing and unpacking. Not here: which values are packed (program.py for types, ops/constexpr.py for the older form).
Format: coremltools mlmodel/src/MILBlob/SubByteTypes.hpp.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


def unpack(packed: NDArray[np.uint8], count: int, bits: int, *, signed: bool) -> NDArray[Any]:
    """`count` numbers of `bits` bits each → uint8, or int8 (two's complement) where signed, both [count]. packed: at least ⌈count·bits/8⌉ bytes."""
    used = packed[: -(-count * bits // 8)]
    dtype = np.int8 if signed else np.uint8
    if 8 % bits == 0:
        return np.take(_numbers_of_bytes(bits, signed), used).view(dtype)[:count]
    single = np.unpackbits(used, bitorder="little")[: count * bits].reshape(count, bits)
    return _signed(np.packbits(single, axis=1, bitorder="little").reshape(-1), bits, signed).view(dtype)


@cache
def _numbers_of_bytes(bits: int, signed: bool) -> NDArray[Any]:
    """What every byte holds, [256] of one word each: to look it up takes a tenth of the time of shifting."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    numbers = (np.arange(256, dtype=np.uint8)[:, None] >> shifts) & np.uint8((1 << bits) - 1)
    words = _signed(numbers, bits, signed).view(f"u{len(shifts)}").reshape(-1)
    words.flags.writeable = False
    return words


def _signed(numbers: NDArray[np.uint8], bits: int, signed: bool) -> NDArray[np.uint8]:
    """Numbers of `bits` bits in bytes of their own, their sign carried to the top."""
    sign = np.uint8(1 << (bits - 1) if signed else 0)
    carried: NDArray[np.uint8] = (numbers ^ sign) - sign
    return carried


def pack(values: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Integers [count] of any type → bytes, ⌈count·bits/8⌉ of them; of each number its lowest `bits` bits, unused bits of the last byte 0."""
    low = values.astype(np.uint8) & np.uint8((1 << bits) - 1)
    if 8 % bits == 0:
        each = 8 // bits
        if low.size % each:
            low = np.concatenate([low, np.zeros(-low.size % each, np.uint8)])
        packed: NDArray[np.uint8] = low[0::each].copy()
        for place in range(1, each):
            packed |= low[place::each] << (place * bits)
        return packed
    return np.packbits(np.unpackbits(low[:, None], axis=1, bitorder="little")[:, :bits].reshape(-1), bitorder="little")
