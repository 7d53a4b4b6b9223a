"""A weight as it will be stored: constants, and the operation that makes the weight of them.

Here: packing arrays, and what a form says when it is read again. Not here: how values are chosen (linear.py, palette.py, gguf_blocks.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.coreml.weights import taken
from runtime.mil.ops.registry import CONSTANT_OPERATIONS
from runtime.mil.packing import pack
from runtime.mil.program import Constant, DataType, TensorType

SHIFT_SCALE, LOOKUP = "constexpr_blockwise_shift_scale", "constexpr_lut_to_dense"


@dataclass(frozen=True)
class Stored:
    """One constant in the bytes of a weight file: little-endian, types below eight bits packed from the lowest bit up."""

    dtype: DataType
    shape: tuple[int, ...]
    data: bytes

    @staticmethod
    def of(values: NDArray[Any], dtype: DataType) -> Stored:
        """values: of any integer type for an integer dtype, else of that float type. They must fit; nothing is clipped."""
        if dtype.is_sub_byte:
            return Stored(dtype, values.shape, pack(values.reshape(-1), dtype.bits).tobytes())
        return Stored(dtype, values.shape, np.ascontiguousarray(values, dtype.numpy).tobytes())

    @property
    def padding_bits(self) -> int:
        """Unused bits of the last byte."""
        return len(self.data) * 8 - int(np.prod(self.shape)) * self.dtype.bits if self.dtype.is_sub_byte else 0

    def array(self) -> NDArray[Any]:
        """The values, as the runner reads them."""
        return Constant(TensorType(self.dtype, self.shape), memoryview(self.data)).array()


@dataclass(frozen=True)
class Form:
    """A weight [N, K] as the inputs of one constexpr operation. label: what an inventory calls it, `int8 per channel`."""

    label: str
    operation: str
    inputs: Mapping[str, Stored]

    @property
    def size_bytes(self) -> int:
        return sum(len(stored.data) for stored in self.inputs.values())

    @property
    def file_bytes(self) -> int:
        """What it takes of a weight file; less where an equal array is stored already."""
        return sum(taken(len(stored.data)) for stored in self.inputs.values())

    def values(self) -> NDArray[Any]:
        """fp16 [N, K]: the weight that the operation declares, by the runner's own function."""
        import runtime.mil.ops  # noqa: F401  (fills the table)

        made: NDArray[Any] = CONSTANT_OPERATIONS[self.operation].run(**{name: stored.array() for name, stored in self.inputs.items()})
        return made


def shift_scale(label: str, codes: NDArray[Any], scale: NDArray[Any], offset: NDArray[Any] | None, code: DataType) -> Form:
    """value = scale · (code - offset). codes: integers [N, K]; scale: fp16 [N, K / block]; offset: fp16, or integers of the codes' type, of the same
    shape, or None. A scale is positive, or 0 over zeros: what a
    device makes of a negative one is not documented."""
    inputs = {"data": Stored.of(codes, code), "scale": Stored.of(scale, DataType.FLOAT16)}
    if offset is not None:
        inputs["offset"] = Stored.of(offset, DataType.FLOAT16 if offset.dtype == np.float16 else code)
    return Form(label, SHIFT_SCALE, inputs)
