"""The constants of an ML Program's function as numbers, stored as they are or computed by `constexpr` operations.

Here: finding and naming them. Not here: comparing (tensors.py, graphs.py), what `constexpr` operations compute (runtime/mil).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from interlock.contracts.package import PACKAGE
from interlock.errors import refuse
from pipeline.comparison.tensors import Named, Numbers
from runtime.mil.program import Constant, DataType, Function, Operation, TensorType
from runtime.mil.weights import Computed, Fixed


def constants_of(function: Function) -> dict[str, Fixed]:
    """By the name of their result; a compressed one is computed only when it is read."""
    held: dict[str, Fixed] = {}
    for operation in function.operations():
        if operation.type == "const":
            held[operation.outputs[0].name] = operation.attributes["val"]
        elif operation.type.startswith("constexpr_"):
            given = _given(operation, held)
            if given is not None:
                held.update({output.name: Computed(operation, given, at) for at, output in enumerate(operation.outputs)})
    return held


def _given(operation: Operation, held: Mapping[str, Fixed]) -> dict[str, Fixed] | None:
    """What an operation computes from; None where that is no constant: its result is then a value of the run."""
    given: dict[str, Fixed] = {name: value for name, value in operation.attributes.items() if name != "name"}
    for name, bindings in operation.inputs.items():
        value = held.get(bindings[0]) if isinstance(bindings[0], str) else bindings[0]
        if value is None:
            return None
        given[name] = value
    return given


def numbers_of(value: Fixed, name: str) -> Named | None:
    """A constant as a tensor; None for what has no numbers that numpy knows.

    Reading it raises ContractError where the parts of a compressed one do not fit each other.
    """
    if not isinstance(value.type, TensorType) or value.type.dtype.numpy is None or value.type.shape is None:
        return None
    shape = tuple(size or 0 for size in value.type.shape)
    if isinstance(value, Constant):
        return Named(shape, value.type.dtype.mil, value.array)
    return Named(shape, f"{_codes(value)} {value.operation.type.removeprefix('constexpr_')}", lambda: _computed(value, name))


def _computed(value: Computed, name: str) -> Numbers:
    try:
        return value.array()
    except (TypeError, ValueError) as problem:
        expected = f"a `{value.operation.type}` of parts that fit each other"
        raise refuse(PACKAGE, f"`{name}`", expected=expected, found=problem, remedy="convert again") from problem


def _codes(value: Computed) -> str:
    """The smallest type that a compressed weight is made from."""
    types = [item.type.dtype for item in value.given.values() if isinstance(item, Constant) and isinstance(item.type, TensorType)]
    return min((kind for kind in types if kind.bits), key=lambda kind: kind.bits, default=DataType.UINT8).mil


def text_of(value: Fixed) -> str:
    """What a constant without numbers says, whole: equal for equal content."""
    if not isinstance(value, Constant):
        return value.operation.type
    if isinstance(value.content, memoryview):
        return f"{value.type}, sha256 {hashlib.sha256(value.content).hexdigest()}"
    return str([text_of(item) if isinstance(item, Constant) else item for item in value.content])
