"""One package of several functions that share their weights, from packages of one function each.

Here: joining saved protobufs and blob files. Not here: converting (functions.py), the storage format (weights.py).
coremltools' `save_multifunction` loads every program, runs passes and writes all of it again (13 processor seconds and 1.1 GB for two
functions of a 135 M model). The files are plain records, so this copies them: same operations, same descriptions, weights stored once
(compared with save_multifunction in tests/pipeline/coreml/test_merge.py). Compressed weights are blobs like others and are shared as well.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from interlock.errors import refuse
from pipeline.coreml.messages import load_converter
from pipeline.coreml.normal import MANIFEST, MODEL
from pipeline.coreml.weights import REMEDY, BlobFile, BlobWriter

WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"
IN_MODEL = "@model_path/weights/weight.bin"


def merge_functions(packages: Mapping[str, Path], default: str, into: Path, note: Callable[[str], None]) -> None:
    """Write the package `into` with each package's `main` under its new name, in this order; `default` runs where no function is named.

    The packages are in normal form (normal.py), and so is the result. Raises ContractError if a package's weights are damaged.
    """
    load_converter()
    from coremltools.proto import Model_pb2

    (into / WEIGHTS).parent.mkdir(parents=True)
    merged = Model_pb2.Model()
    with (into / WEIGHTS).open("wb") as file:
        writer = BlobWriter(file)
        for name, package in packages.items():
            note(f"{name}: share weights")
            part = Model_pb2.Model()
            part.ParseFromString((package / MODEL).read_bytes())
            _append(merged, part, name)
            _move_weights(merged.mlProgram.functions[name], BlobFile(package / WEIGHTS), writer)
        writer.close()
    merged.description.defaultFunctionName = default
    (into / MODEL).write_bytes(merged.SerializeToString(deterministic=True))
    shutil.copyfile(next(iter(packages.values())) / MANIFEST, into / MANIFEST)


def _append(merged: Any, part: Any, name: str) -> None:
    """Add `main` of a one-function model to the merged one, with its description; metadata is that of every part."""
    merged.specificationVersion = max(merged.specificationVersion, part.specificationVersion)
    merged.description.metadata.MergeFrom(part.description.metadata)
    merged.description.functions.add(name=name, input=part.description.input, output=part.description.output, state=part.description.state)
    merged.mlProgram.version = part.mlProgram.version
    merged.mlProgram.functions[name].CopyFrom(part.mlProgram.functions["main"])


def _move_weights(function: Any, source: BlobFile, target: BlobWriter) -> None:
    for value in stored_values(function):
        if value.blobFileValue.fileName != IN_MODEL:
            raise refuse(value.blobFileValue.fileName, "", expected=f"weights in {IN_MODEL}", found="another file", remedy=REMEDY)
        value.blobFileValue.offset = target.add(source.at(value.blobFileValue.offset))


def stored_values(function: Any) -> Iterator[Any]:
    """Every value of a function that lives in the blob file, in the order of its operations."""
    for block in function.block_specializations.values():
        for operation in operations(block):
            yield from stored_in(operation)


def stored_in(operation: Any) -> Iterator[Any]:
    """Every value of one operation that lives in the blob file; blocks inside it have operations of their own."""
    arguments = (argument for name in sorted(operation.inputs) for argument in operation.inputs[name].arguments)
    values = (argument.value for argument in arguments if argument.WhichOneof("binding") == "value")
    attributes = (operation.attributes[name] for name in sorted(operation.attributes))
    yield from (value for value in (*values, *attributes) if value.WhichOneof("value") == "blobFileValue")


def operations(block: Any) -> Iterator[Any]:
    """The operations of a block and of the blocks inside them."""
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from operations(inner)
