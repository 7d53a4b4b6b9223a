"""The constants of an ML Program's function as numbers, stored as they are or computed by `constexpr` operations.

Here: finding and naming them. Not here: comparing (tensors.py, graphs.py), what `constexpr` operations compute (runtime/mil).
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.comparison.tensors import Named
from runtime.mil.program import Constant, Function, Operation, TensorType
from runtime.mil.weights import Computed, Fixed


def constants_of(function: Function) -> dict[str, Fixed]:
    """By the name of their result; a compressed one is computed only when it is read."""
    held: dict[str, Fixed] = {}
    for operation in function.operations():
        if operation.type == "const":
            held[operation.outputs[0].name] = operation.attributes["val"]
        elif operation.type.startswith("constexpr_"):
            given = _given(operation, held)
            held.update({output.name: Computed(operation, given, at) for at, output in enumerate(operation.outputs)})
    return held


def _given(operation: Operation, held: Mapping[str, Fixed]) -> dict[str, Fixed]:
    given: dict[str, Fixed] = {name: value for name, value in operation.attributes.items() if name != "name"}
    for name, bindings in operation.inputs.items():
        given[name] = held[bindings[0]] if isinstance(bindings[0], str) else bindings[0]
    return given


def numbers_of(value: Fixed) -> Named | None:
    """A constant as a tensor; None for what has no numbers that numpy knows."""
    if not isinstance(value.type, TensorType) or value.type.dtype.numpy is None or value.type.shape is None:
        return None
    shape = tuple(size or 0 for size in value.type.shape)
    if isinstance(value, Constant):
        return Named(shape, value.type.dtype.mil, value.array)
    return Named(shape, f"{_codes(value)} {value.operation.type.removeprefix('constexpr_')}", value.array)


def _codes(value: Computed) -> str:
    """The smallest type that a compressed weight is made from."""
    types = [item.type.dtype for item in value.given.values() if isinstance(item, Constant) and isinstance(item.type, TensorType)]
    return min((kind for kind in types if kind.bits), key=lambda kind: kind.bits).mil


def text_of(value: Fixed) -> str:
    """What a constant without numbers says."""
    content = value.content if isinstance(value, Constant) else ()
    return str(content)[:200] if isinstance(content, tuple) else f"{value.type}, {len(content)} bytes"
