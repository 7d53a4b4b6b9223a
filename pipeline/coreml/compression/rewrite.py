"""A package with its weights in other forms: every operation, name, state and interface stays, constants become constexpr operations.

Here: finding weights by their values, writing the new package. Not here: which form a weight takes (assignment.py), the forms (stored.py).
A weight is recognised by the digest of its fp16 values, as the converter stored them: no names of the converter are needed, and a table that
happens to look like a weight (RoPE's cos and sin) is never touched. The constexpr operation takes the constant's output name and its place, so
consumers are as they were, and functions go on sharing their weights.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.coreml.compression.stored import Form, Stored
from pipeline.coreml.merge import IN_MODEL, WEIGHTS, operations, stored_in, stored_values
from pipeline.coreml.messages import load_converter
from pipeline.coreml.normal import MANIFEST, MODEL
from pipeline.coreml.weights import Blob, BlobFile, BlobWriter
from runtime.mil.blobs import BLOB_TYPES
from runtime.mil.program import DataType

LABEL = "interlock.compression"


@dataclass(frozen=True)
class Weight:
    """A weight of the student that the package stores. offset: of its record; values: fp16 [N, K], a view of the package's file."""

    name: str
    offset: int
    values: NDArray[np.float16]


def digest_of(values: NDArray[np.float16]) -> tuple[tuple[int, ...], bytes]:
    """What two equal fp16 arrays have in common."""
    return values.shape, hashlib.sha256(np.ascontiguousarray(values).view(np.uint8)).digest()


def weights_of(package: Path, names: Mapping[tuple[tuple[int, ...], bytes], str]) -> list[Weight]:
    """Matrices of the package whose digests have a name, each once, in the order of the file. Raises ContractError if its weights are damaged."""
    model, blobs = _open(package)
    found: dict[tuple[int, tuple[int, ...]], Weight | None] = {}
    for value in _every_value(model):
        place = value.blobFileValue.offset, _shape(value)
        if place not in found:
            array = _matrix(value, blobs)
            name = None if array is None else names.get(digest_of(array))
            found[place] = None if array is None or name is None else Weight(name, place[0], array)
    return [weight for _, weight in sorted(found.items()) if weight is not None]


def rewrite(package: Path, into: Path, form: Callable[[Weight], Form | None], weights: list[Weight], label: str) -> None:
    """Write the package `into`: each of `weights` in its form, or as it is where that is None. label: what the model's metadata says of it.

    The package is in normal form (normal.py), and so is the result. One form at a time is held in memory.
    """
    model, blobs = _open(package)
    by_offset = {weight.offset: weight for weight in weights}
    (into / WEIGHTS).parent.mkdir(parents=True)
    moved: dict[tuple[int, bool], int | tuple[str, dict[str, tuple[Stored, int]]]] = {}
    with (into / WEIGHTS).open("wb") as file:
        writer = BlobWriter(file)
        for name in sorted(model.mlProgram.functions):  # a map has no order of its own
            for block in model.mlProgram.functions[name].block_specializations.values():
                for operation in operations(block):
                    _move(operation, blobs, by_offset, form, writer, moved)
        writer.close()
    model.description.metadata.userDefined[LABEL] = label
    (into / MODEL).write_bytes(model.SerializeToString(deterministic=True))
    shutil.copyfile(package / MANIFEST, into / MANIFEST)


def _open(package: Path) -> tuple[Any, BlobFile]:
    load_converter()
    from coremltools.proto import Model_pb2

    return Model_pb2.Model.FromString((package / MODEL).read_bytes()), BlobFile(package / WEIGHTS)


def _every_value(model: Any) -> list[Any]:
    return [value for name in sorted(model.mlProgram.functions) for value in stored_values(model.mlProgram.functions[name])]


def _matrix(value: Any, blobs: BlobFile) -> NDArray[np.float16] | None:
    kind = value.type.tensorType
    if kind.dataType != DataType.FLOAT16.number or len(kind.dimensions) != 2:
        return None
    return np.frombuffer(blobs.at(value.blobFileValue.offset).data, np.float16).reshape(_shape(value))


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(dimension.constant.size for dimension in value.type.tensorType.dimensions)


def _move(operation: Any, blobs: BlobFile, weights: Mapping[int, Weight], form: Any, writer: BlobWriter, moved: dict[Any, Any]) -> None:
    """Point every stored value of an operation at its place in the new file; a constant whose weight has a form becomes that operation."""
    for value in list(stored_in(operation)):
        offset = value.blobFileValue.offset
        weight = weights.get(offset) if operation.type == "const" else None
        # the same bytes may be a constant of another shape as well, which stays
        weight = weight if weight is not None and weight.values.shape == _shape(value) else None
        key = offset, weight is not None
        if key not in moved:
            made = form(weight) if weight is not None else None
            moved[key] = writer.add(blobs.at(offset)) if made is None else (made.operation, _added(made, writer))
        place = moved[key]
        if isinstance(place, int):
            value.blobFileValue.offset = place
            continue
        operation.type = place[0]
        del operation.attributes["val"]
        for name, (stored, at) in place[1].items():
            _bind(operation.inputs[name].arguments.add().value, stored, at)


def _added(form: Form, writer: BlobWriter) -> dict[str, tuple[Stored, int]]:
    return {
        name: (stored, writer.add(Blob(BLOB_TYPES[stored.dtype], stored.padding_bits, memoryview(stored.data))))
        for name, stored in form.inputs.items()
    }


def _bind(value: Any, stored: Stored, offset: int) -> None:
    kind = value.type.tensorType
    kind.dataType, kind.rank = stored.dtype.number, len(stored.shape)
    for size in stored.shape:
        kind.dimensions.add().constant.size = size
    value.blobFileValue.fileName, value.blobFileValue.offset = IN_MODEL, offset
