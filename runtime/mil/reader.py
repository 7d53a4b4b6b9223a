"""Reading a saved `.mlpackage`: files to records, refused unless every part of it is what it claims to be.

Here: records of the wire format to `Program`. Not here: bytes to records (wire.py), names and types across operations (validate.py).
Nothing of a converter is needed, and nothing is computed.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from interlock.errors import ContractError, Violation, refuse
from runtime.mil.blobs import BlobError, BlobStore
from runtime.mil.program import (
    DATA_TYPES,
    IMAGES,
    Binding,
    Block,
    Constant,
    DataType,
    DictionaryType,
    Feature,
    Function,
    ListType,
    NamedType,
    Operation,
    Program,
    StateType,
    TensorType,
    TupleType,
    ValueType,
)
from runtime.mil.schema import SCHEMA
from runtime.mil.validate import violations
from runtime.mil.wire import Record, WireError, decode

MODEL = Path("Data/com.apple.CoreML/model.mlmodel")
REMEDY = "convert again, or check that the whole package was copied"
# A program of 100 layers and 10 functions is 40 MB; the weights are not in it.
MAX_MODEL_BYTES = 256 << 20
# More than any tensor that fits a device, and small enough that no product of sizes surprises numpy.
MAX_ELEMENTS = 1 << 40
MAX_RANK = 16
# Types of operations, parameters and functions: they stand in every message about them.
MAX_WORD = 256


def open_package(path: Path) -> Program:
    """The program of an `.mlpackage` directory, with its weights mapped. Raises ContractError, with every violation found."""
    file = path / MODEL
    if path.is_symlink() or any(part.is_symlink() for part in (file, *list(file.parents)[:2])) or not file.is_file():
        raise refuse(file, "", expected="the model file of an .mlpackage directory, no links", found="none", remedy=REMEDY)
    size = file.stat().st_size
    if size > MAX_MODEL_BYTES:
        raise refuse(file, "", expected=f"at most {MAX_MODEL_BYTES} bytes", found=size, remedy=REMEDY)
    with _collector_paused():
        program = _read(path, file)
        found = violations(program)
    if found:
        raise ContractError(*(Violation(str(file), where, expected, problem) for where, expected, problem in found), remedy=REMEDY)
    return program


def _read(path: Path, file: Path) -> Program:
    """Its records are gone when it returns: the collector would look through them first thing."""
    try:
        model = decode(SCHEMA, "Model", file.read_bytes())
    except WireError as problem:
        raise refuse(file, f"byte {problem.offset}", expected="a Core ML model", found=problem, remedy=REMEDY) from problem
    if "mlProgram" not in model:
        raise refuse(file, "mlProgram", expected="an ML Program", found="another kind of model", remedy=REMEDY)
    return _Reader(path, BlobStore(file.parent)).program(model)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Half a million records are made and none is garbage: to look through them again and again takes as long as to make them."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class _Reader:
    """Turns records into a Program; `_at` remembers the place for messages."""

    def __init__(self, path: Path, blobs: BlobStore) -> None:
        self._path, self._blobs = path, blobs
        self._at: str | tuple[str, int, Record] = ""
        # Records of small messages are shared (wire.py): what was made of one is kept by its identity while the records live.
        self._types: dict[int, ValueType] = {}
        self._constants: dict[int, Constant] = {}
        self._operations: dict[int, Operation] = {}

    def program(self, model: Record) -> Program:
        description = model.get("description", {})
        functions = model["mlProgram"].get("functions", {})
        described = {part.get("name", ""): part for part in description.get("functions", [])} or {"main": description}
        self._require(set(described) == set(functions), "functions", f"{sorted(described)} as described", sorted(functions))
        default = description.get("defaultFunctionName") or "main"
        if default not in functions and len(functions) == 1:
            default = next(iter(functions))
        self._require(default in functions, "description/defaultFunctionName", f"one of {sorted(functions)}", default)
        metadata = {key: value or "" for key, value in description.get("metadata", {}).get("userDefined", {}).items()}
        return Program(
            path=self._path,
            specification_version=model.get("specificationVersion", 0),
            functions=MappingProxyType({name: self._function(name, functions[name], described[name]) for name in sorted(functions)}),
            default_function=default,
            metadata=MappingProxyType(metadata),
        )

    def _function(self, name: str, record: Record, described: Record) -> Function:
        self._at = f"functions/{name[:80]}"
        self._require(len(name) <= MAX_WORD, "name", f"at most {MAX_WORD} characters", len(name))
        opset, blocks = record.get("opset", ""), record.get("block_specializations", {})
        self._require(opset in blocks, "opset", f"one of the blocks {sorted(blocks)}", opset)
        taken = self._named(record.get("inputs", []))
        inputs = tuple(value for value in taken if not isinstance(value.type, StateType))
        states = tuple(value for value in taken if isinstance(value.type, StateType))
        block = self._block(blocks[opset], f"functions/{name}")
        self._at = f"functions/{name}"
        features = {feature.name: feature for feature in map(self._feature, described.get("input", []))}
        self._agree("inputs", features, inputs)
        self._agree("states", (item.get("name", "") for item in described.get("state", [])), states)
        promised = sorted(item.get("name", "") for item in described.get("output", []))
        self._require(promised == sorted(block.outputs), "outputs", f"{promised} as described", sorted(block.outputs))
        return Function(name, opset, inputs, states, block, MappingProxyType(features))

    def _agree(self, part: str, promised: Iterable[str], taken: tuple[NamedType, ...]) -> None:
        expected, found = sorted(promised), sorted(value.name for value in taken)
        self._require(expected == found, part, f"{expected} as described", found)

    def _feature(self, record: Record) -> Feature:
        kind, name = record.get("type", {}), record.get("name", "")
        optional = kind.get("isOptional", False)
        if "imageType" in kind:
            return self._image(name, kind["imageType"], optional)
        array = kind.get("multiArrayType", {})
        shapes = tuple(tuple(shape.get("shape", [])) for shape in array.get("enumeratedShapes", {}).get("shapes", []))
        ranges = tuple(map(_bounds, array.get("shapeRange", {}).get("sizeRanges", [])))
        default = next((float(array[key]) for key in ("intDefaultValue", "floatDefaultValue", "doubleDefaultValue") if key in array), 0.0)
        return Feature(name, shapes, ranges, optional, default)

    def _image(self, name: str, record: Record, optional: bool) -> Feature:
        """An image as the array [1, channels, height, width] that the program takes."""
        number = record.get("colorSpace", 0)
        self._require(number in IMAGES, f"input `{name[:80]}`: colorSpace", f"one of {sorted(IMAGES)}", number)
        channels = 1 if IMAGES[number].startswith("GRAY") else 3
        sizes = record.get("enumeratedSizes", {}).get("sizes", [])
        shapes = tuple((1, channels, size.get("height", 0), size.get("width", 0)) for size in sizes)
        spans = [record["imageSizeRange"].get(key, {}) for key in ("heightRange", "widthRange")] if "imageSizeRange" in record else []
        ranges = ((1, 1), (channels, channels), *map(_bounds, spans)) if spans else ()
        return Feature(name, shapes, ranges, optional, image=IMAGES[number])

    def _block(self, record: Record, place: str) -> Block:
        inputs = self._named(record.get("inputs", []))
        operations = tuple(self._operation(operation, place, index) for index, operation in enumerate(record.get("operations", ())))
        return Block(inputs, tuple(record.get("outputs", [])), operations)

    def _operation(self, record: Record, place: str, index: int) -> Operation:
        found = self._operations.get(id(record))
        if found is None:
            found = self._operations[id(record)] = self._fresh_operation(record, place, index)
        return found

    def _fresh_operation(self, record: Record, place: str, index: int) -> Operation:
        kind, outputs = record.get("type", ""), record.get("outputs", ())
        self._at = (place, index, record)
        given, attached = record.get("inputs", {}), record.get("attributes", {})
        longest = max(map(len, (kind, *given, *attached)))
        self._require(longest <= MAX_WORD, "type and parameters", f"names of at most {MAX_WORD} characters", longest)
        inputs = {key: self._bindings(argument) for key, argument in given.items()}
        attributes = {key: self._constant(value) for key, value in attached.items()}
        named = self._named(outputs)
        blocks = tuple(self._block(block, f"{place}/{index}/{number}") for number, block in enumerate(record.get("blocks", ())))
        return Operation(kind, MappingProxyType(inputs), MappingProxyType(attributes), named, blocks)

    def _bindings(self, argument: Record) -> tuple[Binding, ...]:
        given = argument.get("arguments", ())
        self._require(bool(given) and all(given), "inputs", "a name or a value", "neither")
        return tuple([item["name"] if "name" in item else self._constant(item["value"]) for item in given])

    def _named(self, records: Iterable[Record]) -> tuple[NamedType, ...]:
        return tuple([NamedType(record.get("name", ""), self._type(record.get("type", {}))) for record in records])

    def _type(self, record: Record) -> ValueType:
        found = self._types.get(id(record))
        if found is None:
            found = self._types[id(record)] = self._fresh_type(record)
        return found

    def _fresh_type(self, record: Record) -> ValueType:
        if "tensorType" in record:
            return self._tensor_type(record["tensorType"])
        if "listType" in record:
            part = record["listType"]
            length = self._size(part.get("length", {}))
            return ListType(self._type(part.get("type", {})), length if isinstance(length, int) else None)
        if "tupleType" in record:
            return TupleType(tuple(map(self._type, record["tupleType"].get("types", []))))
        if "dictionaryType" in record:
            part = record["dictionaryType"]
            return DictionaryType(self._type(part.get("keyType", {})), self._type(part.get("valueType", {})))
        wrapped = self._type(record["stateType"].get("wrappedType", {})) if "stateType" in record else None
        if not isinstance(wrapped, TensorType):
            raise self._refusal("type", "a tensor, list, tuple, dictionary, or state of a tensor", "another type")
        self._require(wrapped.shape is not None and None not in wrapped.shape, "type", "a state of fixed size", wrapped)
        return StateType(wrapped)

    def _tensor_type(self, record: Record) -> TensorType:
        number = record.get("dataType", 0)
        self._require(number in DATA_TYPES, "dataType", "a data type of ML Programs", number)
        sizes = [self._size(dimension) for dimension in record.get("dimensions", [])]
        if any(size == "..." for size in sizes) or record.get("rank", 0) < 0:
            return TensorType(DATA_TYPES[number], None)
        self._require(
            record.get("rank", 0) == len(sizes) <= MAX_RANK, "rank", f"{len(sizes)} as dimensions, at most {MAX_RANK}", record.get("rank", 0)
        )
        shape = tuple(size if isinstance(size, int) else None for size in sizes)
        known = math.prod(size for size in shape if size)
        self._require(known <= MAX_ELEMENTS, "dimensions", f"at most {MAX_ELEMENTS} elements", known)
        return TensorType(DATA_TYPES[number], shape)

    def _size(self, dimension: Record) -> int | str:
        """A size, `?` for one known at run time, `...` for any number of them."""
        if "constant" in dimension:
            size: int = dimension["constant"].get("size", 0)
            self._require(size <= MAX_ELEMENTS, "dimensions", f"at most {MAX_ELEMENTS}", size)
            return size
        return "..." if dimension.get("unknown", {}).get("variadic") else "?"

    def _constant(self, record: Record) -> Constant:
        found = self._constants.get(id(record))
        if found is None:
            found = self._constants[id(record)] = self._fresh_constant(record)
        return found

    def _fresh_constant(self, record: Record) -> Constant:
        kind = self._type(record.get("type", {}))
        if isinstance(kind, TensorType):
            self._require(kind.shape is not None and None not in kind.shape, "value", "a constant of known size", kind)
            return self._blob(kind, record["blobFileValue"]) if "blobFileValue" in record else self._immediate(kind, record)
        immediate = record.get("immediateValue", {})
        parts: list[Record]
        if isinstance(kind, (ListType, TupleType)):
            parts = immediate.get("list" if isinstance(kind, ListType) else "tuple", {}).get("values", [])
            expected = kind.length if isinstance(kind, ListType) else len(kind.elements)
            self._require(expected in (None, len(parts)), "value", f"{expected} elements", len(parts))
        elif isinstance(kind, DictionaryType):
            pairs = immediate.get("dictionary", {}).get("values", [])
            parts = [pair.get(key, {}) for pair in pairs for key in ("key", "value")]
        else:
            raise self._refusal("value", "a constant", "a state")
        return Constant(kind, tuple(self._constant(part) for part in parts))

    def _blob(self, kind: TensorType, reference: Record) -> Constant:
        origin = (reference.get("fileName", ""), reference.get("offset", 0))
        try:
            return Constant(kind, self._blobs.blob(*origin, kind.dtype, _count(kind)), origin)
        except BlobError as problem:
            raise self._refusal(problem.where, problem.expected, problem.found) from problem

    def _immediate(self, kind: TensorType, record: Record) -> Constant:
        tensor = record.get("immediateValue", {}).get("tensor", {})
        form, values = next(((key, part.get("values", b"" if key == "bytes" else [])) for key, part in tensor.items()), ("nothing", []))
        self._require(kind.dtype in _FORMS.get(form, ()) or _count(kind) == 0, "value", f"a value of {kind}", form)
        if form == "strings":
            self._require(len(values) == _count(kind), "value", f"{_count(kind)} strings", len(values))
            return Constant(kind, tuple(values))
        if form == "bytes":
            stored = bytes(values)
        elif kind.dtype.numpy is not None:
            try:
                stored = np.array(values, dtype=kind.dtype.numpy).tobytes()
            except OverflowError as problem:
                raise self._refusal("value", f"numbers that {kind.dtype.mil} holds", problem) from problem
        else:
            stored = b""
        expected = kind.dtype.stored_bytes(_count(kind))
        self._require(len(stored) == expected, "value", f"{expected} bytes for {kind}", len(stored))
        return Constant(kind, memoryview(stored))

    def _require(self, holds: bool, part: str, expected: str, found: object) -> None:
        if not holds:
            raise self._refusal(part, expected, found)

    def _refusal(self, part: str, expected: str, found: object) -> ContractError:
        where = f"{_place(self._at)}: {part}" if self._at else part
        return refuse(self._path / MODEL, where[:400], expected=expected[:400], found=str(found)[:400], remedy=REMEDY)


def _place(at: str | tuple[str, int, Record]) -> str:
    """at: a place, or a block's place with the index and the record of one of its operations."""
    if isinstance(at, str):
        return at
    block, index, record = at
    kind, outputs = record.get("type", "")[:80], record.get("outputs")
    return f"{block}/{index} ({kind} `{outputs[0].get('name', '')[:80]}`)" if outputs else f"{block}/{index} ({kind})"


def _bounds(record: Record) -> tuple[int, int | None]:
    """An upper bound below zero means none (FeatureTypes.proto, SizeRange)."""
    upper = record.get("upperBound", 0)
    return record.get("lowerBound", 0), None if upper < 0 else upper


def _count(kind: TensorType) -> int:
    return math.prod(size or 0 for size in kind.shape or ())


_BYTES = tuple(dtype for dtype in DataType if dtype is not DataType.STRING)
# MIL.proto, TensorValue: which field holds which types. Small integers may stand in `ints` as well as in `bytes`.
_FORMS: dict[str, tuple[Any, ...]] = {
    "floats": (DataType.FLOAT32,),
    "doubles": (DataType.FLOAT64,),
    "ints": (DataType.INT8, DataType.INT16, DataType.INT32, DataType.UINT8, DataType.UINT16, DataType.UINT32),
    "longInts": (DataType.INT64, DataType.UINT64),
    "bools": (DataType.BOOL,),
    "strings": (DataType.STRING,),
    "bytes": _BYTES,
}
