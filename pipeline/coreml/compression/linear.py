"""Integer codes of 8 or 4 bits with one scale per row, or per block of a row: the recipe `linear_symmetric` of coremltools, to the byte.

Here: weights to constants. Not here: the arithmetic (symmetric.py), writing them (rewrite.py), which weights (assignment.py).
coremltools loads the program, runs passes and serialises all of it again for this; the arithmetic alone is a tenth of that work. `weight.bin` holds
the same arrays in the same order (equal ones once; compared in tests).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.coreml.compression import symmetric
from pipeline.coreml.compression.stored import Form, shift_scale
from pipeline.coreml.compression.symmetric import Bits
from runtime.mil.program import DataType

# Rows at a time: temporaries of a large embedding stay near 50 MB.
_ROWS = 4096


def linear(weight: NDArray[Any], bits: Bits, block: int) -> Form:
    """weight: fp16 [N, K] → symmetric codes, a scale for each `block` columns, or for each row where 0 or where the block does not divide K."""
    rows, columns = weight.shape
    size = symmetric.block_size(columns, block)
    codes = np.empty(weight.shape, np.int8)
    scale = np.empty((rows, columns // size), np.float16)
    for start in range(0, rows, _ROWS):
        part = torch.from_numpy(weight[start : start + _ROWS].copy()).float().reshape(-1, columns // size, size)
        whole, steps = symmetric.codes(part, bits)
        codes[start : start + _ROWS] = whole.reshape(-1, columns).to(torch.int8).numpy()
        scale[start : start + _ROWS] = steps.numpy()
    label = f"int{bits} per channel" if size == columns else f"int{bits} blocks of {size}"
    return shift_scale(label, codes, scale, None, DataType.INT4 if bits == 4 else DataType.INT8)
