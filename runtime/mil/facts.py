"""What a saved package says about itself, as the package contract states it.

Here: records of the wire format to contract fields. Not here: the program's records (reader.py), proving that it can run (validate.py).
The stage that makes a package reads the same facts with the converter's own classes: verification does not repeat its reader's mistakes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from interlock.contracts.package import Feature, Function, PackageFacts
from interlock.errors import refuse
from runtime.mil.reader import MAX_MODEL_BYTES, MODEL, REMEDY
from runtime.mil.schema import SCHEMA
from runtime.mil.wire import Record, WireError, decode

# FeatureTypes.proto, ArrayFeatureType.ArrayDataType.
_ARRAY_TYPES = {65568: "float32", 65600: "double", 131104: "int32", 65552: "float16", 131080: "int8"}


def read_facts(package: Path) -> PackageFacts:
    """The facts of an `.mlpackage` directory with an ML Program. Raises ContractError where the model file is none."""
    file = package / MODEL
    size = file.stat().st_size if file.is_file() else 0
    if not 0 < size <= MAX_MODEL_BYTES:
        raise refuse(file, "", expected=f"a model file of at most {MAX_MODEL_BYTES} bytes", found=f"{size} bytes", remedy=REMEDY)
    try:
        model = decode(SCHEMA, "Model", file.read_bytes())
        description, functions = model.get("description", {}), model["mlProgram"].get("functions", {})
        described = {part.get("name", ""): part for part in description.get("functions", [])} or {"main": description}
        return PackageFacts(
            functions={name: _function(described[name], functions[name]) for name in sorted(described)},
            default_function=description.get("defaultFunctionName") or "main",
            specification_version=model.get("specificationVersion", 0),
            weight_bytes=sum(weights.stat().st_size for weights in (file.parent / "weights").glob("*.bin")),
            metadata={key: value or "" for key, value in sorted(description.get("metadata", {}).get("userDefined", {}).items())},
        )
    except WireError as problem:
        raise refuse(file, f"byte {problem.offset}", expected="a Core ML model", found=problem, remedy=REMEDY) from problem
    except KeyError as missing:
        raise refuse(
            file, "mlProgram", expected="an ML Program with the functions that its description names", found=missing, remedy=REMEDY
        ) from None


def _function(described: Record, program: Record) -> Function:
    opset = program.get("opset", "")
    return Function(
        inputs=tuple(_feature(feature, feature["type"]["multiArrayType"]) for feature in described.get("input", [])),
        outputs=tuple(_feature(feature, feature["type"]["multiArrayType"]) for feature in described.get("output", [])),
        states=tuple(_feature(feature, feature["type"]["stateType"]["arrayType"]) for feature in described.get("state", [])),
        opset=opset,
        operations=dict(sorted(Counter(_types(program["block_specializations"][opset])).items())),
    )


def _types(block: Record) -> Iterator[str]:
    for operation in block.get("operations", ()):
        yield operation.get("type", "")
        for inner in operation.get("blocks", ()):
            yield from _types(inner)


def _feature(feature: Record, array: Record) -> Feature:
    """An output that follows a flexible input has no shape in the file: `()`."""
    shapes: list[Any] = array.get("enumeratedShapes", {}).get("shapes", [])
    return Feature(
        name=feature.get("name", ""),
        dtype=_ARRAY_TYPES.get(array.get("dataType", 0), str(array.get("dataType", 0))),
        shape=tuple(array.get("shape", ())),
        enumerated=tuple(sorted(tuple(shape.get("shape", ())) for shape in shapes)),
    )
