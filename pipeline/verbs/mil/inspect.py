"""`mil inspect`: what a package says of itself.

Here: the document and its lines. Not here: reading packages (runtime/mil).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from interlock.voice import human

if TYPE_CHECKING:
    from runtime.mil import Program
    from runtime.mil.program import Function, NamedType


def inspected(program: Program) -> dict[str, Any]:
    """What a package says of itself: functions with inputs, outputs and states, operations by type, weights with bits per element."""
    return {
        "package": str(program.path),
        "specification_version": program.specification_version,
        "default_function": program.default_function,
        "metadata": dict(program.metadata),
        "weights": _weights(program),
        "functions": {name: _function(function) for name, function in program.functions.items()},
    }


def _weights(program: Program) -> list[dict[str, Any]]:
    """Stored blobs by element type, each counted once however many functions share it."""
    from runtime.mil.program import Constant, TensorType

    seen: dict[tuple[str, int], tuple[str, int, int]] = {}
    for function in program.functions.values():
        for operation in function.operations():
            bound = [item for items in operation.inputs.values() for item in items if isinstance(item, Constant)]
            for constant in (*operation.attributes.values(), *bound):
                if constant.origin and isinstance(constant.type, TensorType) and isinstance(constant.content, memoryview):
                    count = 1
                    for size in constant.type.shape or ():
                        count *= size or 0
                    seen[constant.origin] = (constant.type.dtype.mil, count, len(constant.content))
    totals: dict[str, list[int]] = {}
    for dtype, count, size in seen.values():
        total = totals.setdefault(dtype, [0, 0, 0])
        total[0], total[1], total[2] = total[0] + 1, total[1] + count, total[2] + size
    return [
        {
            "dtype": dtype,
            "tensors": tensors,
            "elements": elements,
            "bytes": size,
            "bits_per_element": round(8 * size / elements, 3) if elements else 0,
        }
        for dtype, (tensors, elements, size) in sorted(totals.items())
    ]


def _function(function: Function) -> dict[str, Any]:
    types = {value.name: value for operation in function.block.operations for value in operation.outputs}
    types |= {value.name: value for value in function.inputs}
    return {
        "opset": function.opset,
        "inputs": _named(function.inputs, function),
        "outputs": _named(tuple(types[name] for name in function.block.outputs), function),
        "states": _named(function.states, function),
        "operations": dict(Counter(operation.type for operation in function.operations()).most_common()),
    }


def _named(values: tuple[NamedType, ...], function: Function) -> dict[str, str]:
    shown = {}
    for value in values:
        kind = getattr(value.type, "wrapped", value.type)
        enumerated = function.features[value.name].enumerated if value.name in function.features else ()
        shown[value.name] = f"{kind}" + (f" one of {[list(shape) for shape in enumerated]}" if enumerated else "")
    return shown


def lines_of(document: dict[str, Any]) -> list[str]:
    lines = [f"{document['package']}  specification {document['specification_version']}, default function {document['default_function']}"]
    for weights in document["weights"]:
        size = human(weights["bytes"], "B")
        lines.append(
            f"  weights  {weights['tensors']} x {weights['dtype']}, {weights['elements']} elements, {size}, {weights['bits_per_element']:g} bits each"
        )
    for name, function in document["functions"].items():
        lines.append(f"{name}  ({function['opset']})")
        for kind in ("inputs", "outputs", "states"):
            lines += [f"  {kind[:-1]:<7}  {key}: {value}" for key, value in function[kind].items()]
        lines.append("  ops      " + ", ".join(f"{count} {kind}" for kind, count in function["operations"].items() if kind != "const"))
    return lines
