"""Constants as tensors, made once per content: functions of a program share them.

Here: stored types to the types that computing uses, decompression. Not here: what constants are (program.py), the formulas (ops/constexpr.py).
Every fp16 constant is widened to fp32, which is exact: rounding results is the executor's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from runtime.mil.ops.registry import CONSTANT_OPERATIONS
from runtime.mil.program import Array, Constant, DataType, Operation

# What holds a value of each type while computing; unsigned types that torch computes with poorly are held wider.
CARRIERS: dict[DataType, torch.dtype] = {
    DataType.BOOL: torch.bool,
    DataType.FLOAT16: torch.float32,
    DataType.FLOAT32: torch.float32,
    DataType.FLOAT64: torch.float64,
    DataType.INT4: torch.int8,
    DataType.INT8: torch.int8,
    DataType.INT16: torch.int16,
    DataType.INT32: torch.int32,
    DataType.INT64: torch.int64,
    DataType.UINT1: torch.uint8,
    DataType.UINT2: torch.uint8,
    DataType.UINT3: torch.uint8,
    DataType.UINT4: torch.uint8,
    DataType.UINT6: torch.uint8,
    DataType.UINT8: torch.uint8,
    DataType.UINT16: torch.int32,
    DataType.UINT32: torch.int64,
}


class Computed:
    """The result of a constexpr operation: an array that stands for a constant. `identity` is equal for equal operations on equal constants."""

    def __init__(self, values: Array, identity: tuple[object, ...]) -> None:
        self.values, self._identity = values, identity

    def array(self) -> Array:
        return self.values

    def key(self) -> tuple[object, ...]:
        return self._identity


Fixed = Constant | Computed


class Weights:
    """Tensors by the content of their constants."""

    def __init__(self) -> None:
        self._tensors: dict[tuple[object, ...], Tensor] = {}
        self.places: set[int] = set()  # where their memory begins
        self._computed: dict[tuple[object, ...], tuple[Computed, ...]] = {}

    def tensor(self, constant: Fixed) -> Tensor:
        """The constant in the type that computing uses. Nobody may change it. Raises TypeError for what is no array of numbers."""
        key = constant.key()
        if key not in self._tensors:
            self._tensors[key] = _tensor(constant.array())
            self.places.add(self._tensors[key].untyped_storage().data_ptr())
        return self._tensors[key]

    def computed(self, operation: Operation, given: Mapping[str, Fixed]) -> tuple[Computed, ...]:
        """The outputs of a constexpr operation. Raises ValueError, IndexError or TypeError if its constants do not fit each other."""
        key = (operation.type, tuple(sorted((name, value.key()) for name, value in given.items())))
        if key not in self._computed:
            arguments: dict[str, Any] = {name: _argument(value) for name, value in given.items()}
            result = CONSTANT_OPERATIONS[operation.type].run(**arguments)
            parts = result if isinstance(result, tuple) else (result,)
            self._computed[key] = tuple(Computed(np.asarray(part), (*key, at)) for at, part in enumerate(parts))
        return self._computed[key]


def _tensor(array: Array) -> Tensor:
    kind = array.dtype
    if kind == np.float16:
        # torch widens ten times faster than numpy; it wants memory of its own to read from
        return torch.from_numpy(array.copy()).float()
    if kind in (np.uint16, np.uint32):
        return torch.from_numpy(array.astype(np.int32 if kind == np.uint16 else np.int64))
    return torch.from_numpy(np.array(array, copy=True))


def _argument(value: Fixed) -> Array | str:
    content = value.content if isinstance(value, Constant) else None
    if isinstance(content, tuple) and len(content) == 1 and isinstance(content[0], str):
        return content[0]
    return value.array()
