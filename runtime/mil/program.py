"""An ML Program as immutable records: what a saved package says, and nothing about how it is run.

Here: types, constants, operations, functions. Not here: reading them from files (reader.py), their rules (validate.py), their meaning (ops/).
Words follow MIL, the language of the format: coremltools mlmodel/format/MIL.proto.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.mil.packing import unpack

Array = NDArray[np.generic]
Shape = tuple[int | None, ...]


class DataType(Enum):
    """An element type: its name in MIL, its number in MIL.proto, its bits, and the numpy type that holds it (None where numpy has none)."""

    BOOL = ("bool", 1, 8, "?")
    STRING = ("string", 2, 0, None)
    FLOAT8E4M3FN = ("fp8e4m3fn", 40, 8, None)
    FLOAT8E5M2 = ("fp8e5m2", 41, 8, None)
    FLOAT16 = ("fp16", 10, 16, "<f2")
    FLOAT32 = ("fp32", 11, 32, "<f4")
    FLOAT64 = ("fp64", 12, 64, "<f8")
    BFLOAT16 = ("bf16", 13, 16, None)
    INT8 = ("int8", 21, 8, "<i1")
    INT16 = ("int16", 22, 16, "<i2")
    INT32 = ("int32", 23, 32, "<i4")
    INT64 = ("int64", 24, 64, "<i8")
    INT4 = ("int4", 25, 4, "<i1")
    UINT8 = ("uint8", 31, 8, "<u1")
    UINT16 = ("uint16", 32, 16, "<u2")
    UINT32 = ("uint32", 33, 32, "<u4")
    UINT64 = ("uint64", 34, 64, "<u8")
    UINT4 = ("uint4", 35, 4, "<u1")
    UINT2 = ("uint2", 36, 2, "<u1")
    UINT1 = ("uint1", 37, 1, "<u1")
    UINT6 = ("uint6", 38, 6, "<u1")
    UINT3 = ("uint3", 39, 3, "<u1")

    def __init__(self, mil: str, number: int, bits: int, numpy: str | None) -> None:
        self.mil, self.number, self.bits, self.numpy = mil, number, bits, numpy

    @property
    def is_float(self) -> bool:
        return self.mil.startswith(("fp", "bf"))

    @property
    def is_sub_byte(self) -> bool:
        """Several elements share a byte: packed from the lowest bit up."""
        return 0 < self.bits < 8

    def stored_bytes(self, count: int) -> int:
        """Bytes of `count` elements in a file."""
        return -(-count * self.bits // 8)


DATA_TYPES = {dtype.number: dtype for dtype in DataType}
BY_NAME = {dtype.mil: dtype for dtype in DataType}


@dataclass(frozen=True, slots=True)
class TensorType:
    """dtype and sizes; None for a size that is known only at run time, shape None for an unknown number of dimensions. Strings are tensors too."""

    dtype: DataType
    shape: Shape | None

    def __str__(self) -> str:
        sizes = "..." if self.shape is None else ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.dtype.mil}[{sizes}]"

    def admits(self, shape: tuple[int, ...]) -> bool:
        """Whether a value of this shape is of this type."""
        if self.shape is None:
            return True
        return len(shape) == len(self.shape) and all(promised in (None, size) for promised, size in zip(self.shape, shape, strict=True))


@dataclass(frozen=True, slots=True)
class ListType:
    """A list of equal elements; length None: it changes at run time."""

    element: ValueType
    length: int | None


@dataclass(frozen=True, slots=True)
class TupleType:
    elements: tuple[ValueType, ...]


@dataclass(frozen=True, slots=True)
class DictionaryType:
    key: ValueType
    value: ValueType


@dataclass(frozen=True, slots=True)
class StateType:
    """What stays from one call to the next."""

    wrapped: TensorType


ValueType = TensorType | ListType | TupleType | DictionaryType | StateType


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that the file holds.

    content: for numbers their stored bytes, little-endian, sub-byte types packed (a view into the weight file where they stand there); for
    strings a tuple; for lists, tuples and dictionaries (key, value, key, value …) a tuple of constants. origin: file and offset of a stored
    blob, else None.
    """

    type: ValueType
    content: memoryview | tuple[str, ...] | tuple[Constant, ...]
    origin: tuple[str, int] | None = None

    def array(self) -> Array:
        """The numbers, read-only; a view of the file unless the type is a sub-byte one. Raises TypeError if they are no numbers numpy knows."""
        if not isinstance(self.type, TensorType) or not isinstance(self.content, memoryview) or self.type.dtype.numpy is None:
            raise TypeError(f"a constant of type {self.type} is no array")
        dtype, shape = self.type.dtype, tuple(size or 0 for size in self.type.shape or ())
        if dtype.is_sub_byte:
            values = unpack(np.frombuffer(self.content, np.uint8), int(np.prod(shape)), dtype.bits, signed=dtype is DataType.INT4)
            values.flags.writeable = False
        else:
            values = np.frombuffer(self.content, dtype.numpy)
        return values.reshape(shape)

    def key(self) -> tuple[object, ...]:
        """Equal for constants of one type and content: a stored blob by its place, others by their bytes."""
        if self.origin is not None:
            return (self.type, *self.origin)
        if isinstance(self.content, memoryview):
            return (self.type, hashlib.sha256(self.content).digest())
        return (self.type, tuple(item.key() if isinstance(item, Constant) else item for item in self.content))


Binding = str | Constant


@dataclass(frozen=True, slots=True)
class NamedType:
    name: str
    type: ValueType


@dataclass(frozen=True, slots=True)
class Operation:
    """inputs: by parameter, one binding or several; attributes: constants by name, for `const` its value `val`."""

    type: str
    inputs: Mapping[str, tuple[Binding, ...]]
    attributes: Mapping[str, Constant]
    outputs: tuple[NamedType, ...]
    blocks: tuple[Block, ...]

    @property
    def name(self) -> str:
        """What messages call it: its first output, or its type where it has none."""
        return self.outputs[0].name if self.outputs else self.type


@dataclass(frozen=True, slots=True)
class Block:
    """Operations in order. It sees the names of the blocks around it."""

    inputs: tuple[NamedType, ...]
    outputs: tuple[str, ...]
    operations: tuple[Operation, ...]


# FeatureTypes.proto, ImageFeatureType.ColorSpace. Pixels are 0 to 255, but any number in the last.
IMAGES = {10: "GRAYSCALE", 20: "RGB", 30: "BGR", 40: "GRAYSCALE_FLOAT16"}


@dataclass(frozen=True, slots=True)
class Feature:
    """An input as the model describes it to a host. enumerated: the shapes it takes; ranges: bounds per dimension (upper None: none);
    both empty: its shape is fixed. default: the value of an optional input that is left out. image: for an image the order of its channels, as in
    IMAGES, else empty; a host that has an image gives its pixels as numbers, and scale and bias of the conversion are part of the program."""

    name: str
    enumerated: tuple[tuple[int, ...], ...] = ()
    ranges: tuple[tuple[int, int | None], ...] = ()
    optional: bool = False
    default: float = 0.0
    image: str = ""


@dataclass(frozen=True, slots=True)
class Function:
    """inputs and states in the order of the file; features: what the description adds about inputs, by name."""

    name: str
    opset: str
    inputs: tuple[NamedType, ...]
    states: tuple[NamedType, ...]
    block: Block
    features: Mapping[str, Feature]

    def operations(self) -> Iterator[Operation]:
        """Every operation, those of nested blocks after the one that holds them."""
        return _operations(self.block)


@dataclass(frozen=True, slots=True)
class Program:
    """A saved package. specification_version: of the whole model file; metadata: what its maker wrote into it."""

    path: Path
    specification_version: int
    functions: Mapping[str, Function]
    default_function: str
    metadata: Mapping[str, str] = field(default_factory=dict)


def _operations(block: Block) -> Iterator[Operation]:
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from _operations(inner)
