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

from runtime.backends.products import Product, Stored, Table, table
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
        array = self.of(_arguments(self))
        if not isinstance(self.type, TensorType) or not self.type.admits(array.shape):
            raise ValueError(f"shape {list(array.shape)} for {self.type}")
        return array

    def of(self, arguments: Mapping[str, Array | str]) -> Array:
        """What the operation makes of these in place of its own. Raises ValueError if they do not fit each other."""
        try:
            result = CONSTANT_OPERATIONS[self.operation.type].run(**arguments)
        except (IndexError, TypeError, KeyError, OverflowError) as problem:
            raise ValueError(f"{type(problem).__name__}: {problem}") from problem
        parts = result if isinstance(result, tuple) else (result,)
        if len(parts) != len(self.operation.outputs):
            raise ValueError(f"{len(parts)} results for {len(self.operation.outputs)} outputs")
        return np.asarray(parts[self._at])

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

    def stored(self) -> Stored:
        """Its rows. Raises ValueError if a part cannot be computed, as reading them does."""
        parts = [_Stored(part) for part in self.parts]
        return parts[0] if len(parts) == 1 else torch.cat([part[:] for part in parts])


class _Stored:
    """A constant [N, K], of which a few rows at a time are read from the file or computed: in fp32 they would stand beside the result."""

    def __init__(self, constant: Fixed) -> None:
        self.shape = Matrix((constant,)).shape
        self._constant = constant
        self._arguments = _arguments(constant) if isinstance(constant, Computed) and constant.operation.type in _BY_ROWS else {}
        self._whole = None if self._arguments else constant.array()

    def __getitem__(self, rows: slice) -> Tensor:
        start, stop, _ = rows.indices(self.shape[0])
        if self._whole is None and isinstance(self._constant, Computed):
            cut = {name: self._cut(value, start, stop) for name, value in self._arguments.items()}
            if all(value is not None for value in cut.values()):
                array = self._constant.of({name: value for name, value in cut.items() if value is not None})
                if array.shape == (stop - start, self.shape[1]):
                    return _own(array)
        if self._whole is None:
            self._whole = self._constant.array()  # refuses what does not fit
        return _own(self._whole[start:stop])

    def _cut(self, value: Array | str, start: int, stop: int) -> Array | str | None:
        """What an argument has for these rows; None where they begin or end inside one of its blocks."""
        if isinstance(value, str) or value.ndim < 2:
            return value
        rows = self.shape[0] // max(1, len(value))
        if not rows or start % rows or stop % rows or self.shape[0] % len(value):
            return value if len(value) == 1 else None
        return value[start // rows : stop // rows]


# Row by row the same, as long as every argument of two and more dimensions is cut alike.
_BY_ROWS = frozenset({"constexpr_blockwise_shift_scale"})


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
        self._tables: dict[tuple[object, ...], Table] = {}
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

    def rows(self, matrix: Matrix) -> Selects:
        """The rows of an fp16 matrix. One that is computed is read where its product reads it: a tied embedding is held once."""
        (part,) = matrix.parts
        return Rows(part.array()) if isinstance(part, Constant) else self._table(matrix)

    def product(self, matrix: Matrix) -> Product:
        """x·Wᵀ."""
        return self._table(matrix)

    def _table(self, matrix: Matrix) -> Table:
        """In the fastest layout for fp32, made once."""
        key = matrix.key()
        if key not in self._tables:
            self._tables[key] = table(matrix.stored(), "float32")
            self.size_bytes += 4 * math.prod(matrix.shape)
            for part in matrix.parts:
                release(part)
        return self._tables[key]


def release(constant: Fixed) -> None:
    """Let the system forget the pages of a weight file that were read for a constant: they are read again if they are needed."""
    if isinstance(constant, Computed):
        for given in constant.given.values():
            release(given)
        return
    view = constant.content
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
        # torch widens ten times faster than numpy
        return _own(array).float()
    if kind in (np.uint16, np.uint32):
        return torch.from_numpy(array.astype(np.int32 if kind == np.uint16 else np.int64))
    return torch.from_numpy(np.array(array, copy=True))


def _own(array: Array) -> Tensor:
    """torch wants memory that could be written, even to read from it."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _arguments(computed: Computed) -> dict[str, Array | str]:
    return {name: _argument(value) for name, value in computed.given.items()}


def _argument(value: Fixed) -> Array | str:
    content = value.content if isinstance(value, Constant) else None
    if isinstance(content, tuple) and len(content) == 1 and isinstance(content[0], str):
        return content[0]
    return value.array()
