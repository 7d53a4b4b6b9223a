"""What a saved package says about itself, read from its files and from nothing else.

Here: the protobuf's interface, operations and metadata as contract fields. Not here: judging them (the stage), running them (runtime/mil).
The package may come from anywhere: sizes are bounded, links are refused, and only the parser of protobuf sees its bytes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from interlock.contracts.package import Feature, Function, PackageFacts
from interlock.errors import ContractError, Violation, refuse
from pipeline.coreml.merge import operations
from pipeline.coreml.messages import load_converter
from pipeline.coreml.normal import MANIFEST, MODEL

REMEDY = "convert again, or check that the whole package was copied"
# A program of 100 layers and 10 functions is 40 MB; the weights are not in it.
MAX_MODEL_BYTES = 256 << 20
MAX_MANIFEST_BYTES = 1 << 20
MAX_FILES = 64


def read_package(package: Path) -> PackageFacts:
    """The facts of an `.mlpackage` directory with an ML Program. Raises ContractError if it is none, or contradicts itself."""
    _require_contained(package)
    load_converter()
    from coremltools.proto import Model_pb2
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    model = Model_pb2.Model()
    path = package / MODEL
    try:
        model.ParseFromString(_bounded(path, MAX_MODEL_BYTES))
    except DecodeError as problem:
        raise refuse(path, "", expected="a Core ML model", found=problem, remedy=REMEDY) from problem
    if model.WhichOneof("Type") != "mlProgram":
        raise refuse(path, "Type", expected="an ML Program", found=model.WhichOneof("Type"), remedy=REMEDY)
    description = model.description
    described = {function.name: function for function in description.functions} or {"main": description}
    _require_agreement(path, described, model.mlProgram.functions)
    return PackageFacts(
        functions={name: _function(described[name], model.mlProgram.functions[name]) for name in sorted(described)},
        default_function=description.defaultFunctionName or "main",
        specification_version=model.specificationVersion,
        weight_bytes=sum(file.stat().st_size for file in (path.parent / "weights").glob("*.bin")),
        metadata=dict(sorted(description.metadata.userDefined.items())),
    )


def _require_contained(package: Path) -> None:
    """No links, few files, and a manifest whose items lie inside the package and include the model."""
    files = sorted(package.rglob("*")) if package.is_dir() and not package.is_symlink() else []
    odd = [path for path in files if path.is_symlink() or not (path.is_dir() or path.is_file())]
    if odd:
        raise refuse(odd[0], "", expected="plain files in a package", found="a link or a device", remedy=REMEDY)
    if len(files) > MAX_FILES:
        raise refuse(package, "", expected=f"at most {MAX_FILES} files", found=len(files), remedy=REMEDY)
    manifest = package / MANIFEST
    try:
        items = json.loads(_bounded(manifest, MAX_MANIFEST_BYTES))["itemInfoEntries"]
        paths = {f"Data/{item['path']}" for item in items.values()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise refuse(manifest, "/itemInfoEntries", expected="items with a path", found=type(problem).__name__, remedy=REMEDY) from problem
    if MODEL not in paths:
        raise refuse(manifest, "/itemInfoEntries", expected=f"an item {MODEL}", found=sorted(paths)[:4], remedy=REMEDY)
    outside = sorted(path for path in paths if ".." in path.split("/") or not (package / path).exists())
    if outside:
        raise refuse(manifest, "/itemInfoEntries", expected="items that are inside the package", found=outside[:4], remedy=REMEDY)


def _bounded(path: Path, limit: int) -> bytes:
    if not path.is_file():
        raise refuse(path, "", expected="a file of the package", found="nothing", remedy=REMEDY)
    size = path.stat().st_size
    if size > limit:
        raise refuse(path, "", expected=f"at most {limit} bytes", found=size, remedy=REMEDY)
    return path.read_bytes()


def _require_agreement(path: Path, described: dict[str, Any], programs: Any) -> None:
    """The description is what a host sees, the program is what runs: same functions, same names."""
    violations = []
    if set(described) != set(programs):
        violations.append(Violation(str(path), "functions", f"{sorted(described)} as described", str(sorted(programs))))
    for name in sorted(set(described) & set(programs)):
        promised = _names(described[name].input) + _names(described[name].state)
        taken = _names(programs[name].inputs)
        block = programs[name].block_specializations.get(programs[name].opset)
        returned = sorted(block.outputs) if block else []
        if sorted(promised) != taken:
            violations.append(Violation(str(path), f"functions/{name}/inputs", f"{sorted(promised)} as described", str(taken)))
        if _names(described[name].output) != returned:
            violations.append(Violation(str(path), f"functions/{name}/outputs", f"{_names(described[name].output)} as described", str(returned)))
    if violations:
        raise ContractError(*violations, remedy=REMEDY)


def _names(features: Iterable[Any]) -> list[str]:
    return sorted(feature.name for feature in features)


def _function(described: Any, program: Any) -> Function:
    block = program.block_specializations[program.opset]
    return Function(
        inputs=tuple(_feature(feature.name, feature.type.multiArrayType) for feature in described.input),
        outputs=tuple(_feature(feature.name, feature.type.multiArrayType) for feature in described.output),
        states=tuple(_feature(feature.name, feature.type.stateType.arrayType) for feature in described.state),
        opset=program.opset,
        operations=dict(sorted(Counter(operation.type for operation in operations(block)).items())),
    )


def _feature(name: str, array: Any) -> Feature:
    """An output that follows a flexible input has no shape in the file: `()`."""
    enumerated = sorted(tuple(shape.shape) for shape in array.enumeratedShapes.shapes)
    dtype = array.ArrayDataType.Name(array.dataType).lower()
    return Feature(name=name, dtype=dtype, shape=tuple(array.shape), enumerated=tuple(enumerated))
