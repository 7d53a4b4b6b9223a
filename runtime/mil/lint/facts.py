"""What rules ask of a function, computed once.

Here: questions that several rules have. Not here: rules.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.mil.program import Constant, Function, NamedType, Operation, TensorType, ValueType


@dataclass(frozen=True)
class Hit:
    """Where a rule is broken. value: of the operation's result, or the name of an input, output or state."""

    operation: str
    value: str
    found: str


def hit(operation: Operation, found: str) -> Hit:
    return Hit(operation.type, operation.name, found)


def tensors(function: Function) -> Iterator[tuple[Operation, NamedType, TensorType]]:
    """Every result of a computing operation that is a tensor."""
    for operation in function.operations():
        if operation.type != "const" and not operation.type.startswith("constexpr_"):
            for output in operation.outputs:
                if isinstance(output.type, TensorType):
                    yield operation, output, output.type


def constants(function: Function) -> Iterator[tuple[Operation, Constant, NDArray[Any]]]:
    """Every constant of numbers, with the operation that holds it."""
    for operation in function.operations():
        given = [item for bindings in operation.inputs.values() for item in bindings if isinstance(item, Constant)]
        for constant in (*operation.attributes.values(), *given):
            if isinstance(constant.type, TensorType) and isinstance(constant.content, memoryview) and constant.type.dtype.numpy is not None:
                yield operation, constant, constant.array()


def makers(function: Function) -> dict[str, Operation]:
    return {output.name: operation for operation in function.operations() for output in operation.outputs}


def users(function: Function, name: str) -> list[Operation]:
    return [item for item in function.operations() if any(name in bindings for bindings in item.inputs.values())]


def given(function: Function, operation: Operation, parameter: str) -> Constant | None:
    """The constant that an operation takes, directly or by name."""
    binding = operation.inputs[parameter][0] if parameter in operation.inputs else operation.attributes.get(parameter)
    if isinstance(binding, str):
        made = makers(function).get(binding)
        return made.attributes.get("val") if made is not None and made.type == "const" else None
    return binding


def sizes(kind: ValueType) -> tuple[int, ...]:
    """Known sizes; 0 for one that changes."""
    return tuple(size or 0 for size in kind.shape or ()) if isinstance(kind, TensorType) else ()


def stored_bytes(function: Function) -> int:
    """Bytes of the blobs that a function uses, each once."""
    found = {constant.origin: len(constant.content) for _, constant, _ in constants(function) if constant.origin}
    return sum(found.values())


def elements(kind: ValueType) -> int:
    return math.prod(sizes(kind))


def extreme(values: NDArray[Any]) -> float:
    """The largest absolute value; NaN or infinity if there is one."""
    return max(float(np.amax(values)), -float(np.amin(values))) if values.size else 0.0
