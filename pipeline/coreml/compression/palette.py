"""Palettes: every weight one of 16, 64 or 256 values, found by k-means.

Here: weights to indices and tables. Not here: writing them (rewrite.py), which weights (assignment.py).
The clustering is coremltools' own function for one array, always its exact one in one dimension: below 10,000 numbers coremltools would take an
approximate one from scikit-learn, which nothing else here needs.
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
    from coremltools.models.neural_network.quantization_utils import _get_kmeans_lookup_table_and_weight as clustered

    size = group if group and len(weight) % group == 0 else len(weight)
    tables, indices = zip(*(clustered(bits, weight[row : row + size], force_kmeans1d=True) for row in range(0, len(weight), size)), strict=True)
    inputs = {
        "indices": Stored.of(np.concatenate(indices).reshape(weight.shape), BY_NAME[f"uint{bits}"]),
        "lut": Stored.of(np.stack(tables).astype(np.float16).reshape(len(tables), 1, 1 << bits, 1), DataType.FLOAT16),
    }
    return Form(f"palette{bits}" + ("" if size == len(weight) else f" per {size} channels"), LOOKUP, inputs)
