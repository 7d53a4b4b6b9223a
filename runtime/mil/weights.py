"""Constants as tensors, made once per content: functions of a program share them.

Here: stored types to the types that computing uses, decompression. Not here: what constants are (program.py), the formulas (ops/constexpr.py).
Every fp16 constant is widened to fp32, which is exact: rounding results is the executor's business.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runtime.backends.products import Product, product
from runtime.mil.ops.registry import CONSTANT_OPERATIONS
from runtime.mil.program import Array, Constant, DataType, Operation, TensorType

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
    """A result of a constexpr operation: an array that stands for a constant, computed whenever it is asked for, so that it is never held
    beside what is made of it."""

    def __init__(self, operation: Operation, given: Mapping[str, Fixed], at: int) -> None:
        self.operation, self.given = operation, given
        self.type = operation.outputs[at].type
        self._at = at

    def array(self) -> Array:
        """Raises ValueError if the constants do not fit each other."""
        try:
            result = CONSTANT_OPERATIONS[self.operation.type].run(**{name: _argument(value) for name, value in self.given.items()})
        except (IndexError, TypeError, KeyError, OverflowError) as problem:
            raise ValueError(f"{type(problem).__name__}: {problem}") from problem
        parts = result if isinstance(result, tuple) else (result,)
        if len(parts) != len(self.operation.outputs):
            raise ValueError(f"{len(parts)} results for {len(self.operation.outputs)} outputs")
        array = np.asarray(parts[self._at])
        if not isinstance(self.type, TensorType) or not self.type.admits(array.shape):
            raise ValueError(f"shape {list(array.shape)} for {self.type}")
        return array

    def key(self) -> tuple[object, ...]:
        return (self.operation.type, tuple(sorted((name, value.key()) for name, value in self.given.items())), self._at)


Fixed = Constant | Computed


@dataclass(frozen=True)
class Matrix:
    """A constant [N, K] whose layout is chosen by what is done with it; several stand one below the other."""

    parts: tuple[Fixed, ...]

    @property
    def shape(self) -> tuple[int, int]:
        sizes = [part.type.shape for part in self.parts if isinstance(part.type, TensorType) and part.type.shape is not None]
        return sum(size[0] or 0 for size in sizes), sizes[0][1] or 0

    def key(self) -> tuple[object, ...]:
        return tuple(part.key() for part in self.parts)

    def array(self) -> Array:
        """Raises ValueError if a part cannot be computed."""
        return self.parts[0].array() if len(self.parts) == 1 else np.concatenate([part.array() for part in self.parts])


class Selects(Protocol):
    """A table whose rows are read."""

    def select(self, index: Tensor) -> Tensor:
        """index: int64 [T] → [T, K] fp32."""


class Rows:
    """Rows of a stored fp16 matrix, widened when they are read: a table that is only looked up is not held in fp32."""

    def __init__(self, stored: NDArray[Any]) -> None:
        self._stored = stored

    def select(self, index: Tensor) -> Tensor:
        """index: int64 [T] → [T, K] fp32."""
        return torch.from_numpy(self._stored[index.numpy()]).float()


class Weights:
    """What is made of constants, by their content. Nobody may change any of it."""

    def __init__(self) -> None:
        self._tensors: dict[tuple[object, ...], Tensor] = {}
        self.places: set[int] = set()  # where their memory begins
        self._products: dict[tuple[object, ...], Product] = {}
        self._rows: dict[tuple[object, ...], Selects] = {}
        self.notes: tuple[str, ...] = ()  # what was chosen, for a person
        self.size_bytes = 0  # of all that is held, padding aside

    def tensor(self, constant: Fixed) -> Tensor:
        """The constant in the type that computing uses. Raises TypeError for what is no array of numbers."""
        key = constant.key()
        if key not in self._tensors:
            self._tensors[key] = _tensor(constant.array())
            self.places.add(self._tensors[key].untyped_storage().data_ptr())
            self.size_bytes += self._tensors[key].numel() * self._tensors[key].element_size()
            release(constant)
        return self._tensors[key]

    def product(self, matrix: Matrix) -> Product:
        """x·Wᵀ, made once."""
        key = matrix.key()
        if key not in self._products:
            self._products[key] = self._new_product(matrix)
            for part in matrix.parts:
                release(part)
        return self._products[key]

    def rows(self, matrix: Matrix) -> Selects:
        """The rows of a stored fp16 matrix."""
        key = matrix.key()
        if key not in self._rows:
            self._rows[key] = Rows(matrix.array())
        return self._rows[key]

    def _new_product(self, matrix: Matrix) -> Product:
        """In the fastest layout for fp32."""
        self.size_bytes += 4 * math.prod(matrix.shape)
        array = matrix.array()
        # torch wants memory of its own to read from
        return product(torch.from_numpy(array if array.flags.writeable else array.copy()), "float32")


def release(constant: Fixed) -> None:
    """Let the system forget the pages of a weight file that were read for a constant: they are read again if they are needed."""
    view = constant.content if isinstance(constant, Constant) else None
    if not isinstance(view, memoryview) or not isinstance(view.obj, mmap.mmap):
        return
    whole, part = (np.frombuffer(given, np.uint8).ctypes.data for given in (view.obj, view))
    first = -(-(part - whole) // mmap.PAGESIZE) * mmap.PAGESIZE
    length = (part - whole + view.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE - first
    if length > 0 and hasattr(mmap, "MADV_DONTNEED"):
        view.obj.madvise(mmap.MADV_DONTNEED, first, length)


def _tensor(array: Array) -> Tensor:
    kind = array.dtype
    if kind == np.float16:
        # torch widens ten times faster than numpy; it wants memory of its own to read from
        return torch.from_numpy(array if array.flags.writeable else array.copy()).float()
    if kind in (np.uint16, np.uint32):
        return torch.from_numpy(array.astype(np.int32 if kind == np.uint16 else np.int64))
    return torch.from_numpy(np.array(array, copy=True))


def _argument(value: Fixed) -> Array | str:
    content = value.content if isinstance(value, Constant) else None
    if isinstance(content, tuple) and len(content) == 1 and isinstance(content[0], str):
        return content[0]
    return value.array()
