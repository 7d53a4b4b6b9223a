"""Numbers of fewer than eight bits, packed from the lowest bit of the first byte up.

Here: packing and unpacking. Not here: which values are packed (program.py for types, ops/constexpr.py for the older form).
Format: coremltools mlmodel/src/MILBlob/SubByteTypes.hpp.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def unpack(packed: NDArray[np.uint8], count: int, bits: int, *, signed: bool) -> NDArray[Any]:
    """`count` numbers of `bits` bits each → uint8, or int8 (two's complement) where signed, both [count]. packed: at least ⌈count·bits/8⌉ bytes."""
    used = packed[: -(-count * bits // 8)]
    values: NDArray[Any]
    if 8 % bits == 0:
        shifts = np.arange(0, 8, bits, dtype=np.uint8)
        values = ((used[:, None] >> shifts) & ((1 << bits) - 1)).reshape(-1)[:count]
    else:
        single = np.unpackbits(used, bitorder="little")[: count * bits].reshape(count, bits)
        values = np.packbits(single, axis=1, bitorder="little").reshape(-1)
    if not signed:
        return values.astype(np.uint8, copy=False)
    wide = values.astype(np.int8)
    return np.where(wide >= 1 << (bits - 1), wide - (1 << bits), wide).astype(np.int8)


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
