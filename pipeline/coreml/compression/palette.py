"""Palettes: every weight one of 16, 64 or 256 values, found by k-means.

Here: weights to indices and tables. The clustering is coremltools' own function for one array, without its pass over programs.
Not here: writing them (rewrite.py), which weights (assignment.py).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.coreml.compression.stored import LOOKUP, Form, Stored
from pipeline.coreml.messages import load_converter
from runtime.mil.program import BY_NAME, DataType


def palette(weight: NDArray[Any], bits: Literal[4, 6, 8], group: int) -> Form:
    """weight: fp16 [N, K] → indices [N, K] and a table for each `group` rows, or one for all where 0 or where the group does not divide N.

    lut: fp16 [N / group, 1, 2^bits, 1], as `constexpr_lut_to_dense` of iOS18 has it.
    """
    load_converter()
    from coremltools.optimize.coreml._quantization_passes import palettize_weights

    size = group if group and len(weight) % group == 0 else len(weight)
    made = palettize_weights.grouped_channelwise_compress(weight, "KMEANS", bits, 0, size)
    tables = np.asarray(made.lut, np.float16)
    inputs = {
        "indices": Stored.of(np.asarray(made.indices), BY_NAME[f"uint{bits}"]),
        "lut": Stored.of(tables.reshape(len(weight) // size, 1, 1 << bits, 1), DataType.FLOAT16),
    }
    return Form(f"palette{bits}" + ("" if size == len(weight) else f" per {size} channels"), LOOKUP, inputs)
