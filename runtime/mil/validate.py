"""The rules of a program as a whole: every name is defined once and before its use, every type agrees with every other.

Here: what can be said without running anything. Not here: single values (reader.py), whether an operation is known (plan.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from runtime.mil.program import Block, Constant, Function, ListType, NamedType, Operation, Program, StateType, TensorType, ValueType

# coremltools, _OPSET: iOS15 … iOS18, and iOS26 that added only data types.
OPSETS = ("CoreML5", "CoreML6", "CoreML7", "CoreML8", "CoreML9")
Problem = tuple[str, str, str]
MAX_PROBLEMS = 100
_STATE_USES = (("read_state", "input"), ("write_state", "input"))
MAX_NAME = 4096


def violations(program: Program) -> list[Problem]:
    """(place, expected, found) of everything that is wrong, at most a hundred."""
    found: list[Problem] = []
    for function in program.functions.values():
        for problem in _function(function):
            found.append(problem)
            if len(found) == MAX_PROBLEMS:
                return found
    return found


def _function(function: Function) -> Iterator[Problem]:
    place = f"functions/{function.name}"
    if function.opset not in OPSETS:
        yield f"{place}/opset", f"one of {', '.join(OPSETS)}", function.opset
    scope: dict[str, ValueType] = {}
    yield from _define(scope, place, (*function.inputs, *function.states))
    if function.block.inputs:
        yield place, "no inputs of the block of a function", str(len(function.block.inputs))
    yield from _block(function.block, scope, place)


def _block(block: Block, scope: dict[str, ValueType], place: str) -> Iterator[Problem]:
    """scope: what the blocks around define; it holds the same again after."""
    known = len(scope)
    yield from _define(scope, place, block.inputs)
    for index, operation in enumerate(block.operations):
        for part, expected, found in _operation(operation, scope):
            yield f"{_where(place, index, operation)}{part}", expected, found
        for number, inner in enumerate(operation.blocks):
            yield from _block(inner, scope, f"{place}/{index}/{number}")
        for _, expected, found in _define(scope, "", operation.outputs):
            yield _where(place, index, operation), expected, found
    for name in block.outputs:
        if name not in scope or isinstance(scope[name], StateType):
            yield f"{place}/outputs", "a value that is defined", name[:80]
    while len(scope) > known:
        scope.popitem()  # the youngest; no copy is made before: a program may have as many blocks as names


def _where(place: str, index: int, operation: Operation) -> str:
    return f"{place}/{index} ({operation.type} `{operation.name[:80]}`)"


def _operation(operation: Operation, scope: Mapping[str, ValueType]) -> Iterator[Problem]:
    """With the part of the operation as its place."""
    for parameter, bindings in operation.inputs.items():
        for binding in bindings:
            if not isinstance(binding, str):
                continue
            if binding not in scope:
                yield f": {parameter}", "a name that is defined before its use", binding[:80]
            elif isinstance(scope[binding], StateType) and (operation.type, parameter) not in _STATE_USES:
                yield f": {parameter}", "a value, which read_state makes of a state", binding[:80]
    if operation.type == "const":
        yield from _constant(operation)
    elif operation.type in ("read_state", "write_state"):
        state = operation.inputs.get("input", ("",))[0]
        kind = scope.get(state) if isinstance(state, str) else None
        if not isinstance(kind, StateType):
            yield ": input", "a state of the function", "another value"
        elif operation.type == "read_state" and (len(operation.outputs) != 1 or operation.outputs[0].type != kind.wrapped):
            yield ": outputs", f"one value of {kind.wrapped}", _types(operation)
        elif operation.type == "write_state":
            yield from _written(operation, kind, scope)


def _written(operation: Operation, state: StateType, scope: Mapping[str, ValueType]) -> Iterator[Problem]:
    data = operation.inputs.get("data", (None,))[0]
    kind = data.type if isinstance(data, Constant) else scope.get(data) if data is not None else None
    if not isinstance(kind, TensorType) or not compatible(kind, state.wrapped):
        yield ": data", f"a value of {state.wrapped}", str(kind)


def _constant(operation: Operation) -> Iterator[Problem]:
    value = operation.attributes.get("val")
    if value is None or len(operation.outputs) != 1:
        yield "", "one output and a value `val`", f"{len(operation.outputs)} outputs, {sorted(operation.attributes)}"
    elif not compatible(value.type, operation.outputs[0].type):
        yield ": val", f"a value of {operation.outputs[0].type}", str(value.type)


def compatible(one: ValueType, other: ValueType) -> bool:
    """Whether one value could be of both types: equal where both know."""
    if one is other:
        return True
    if isinstance(one, TensorType) and isinstance(other, TensorType):
        if one.dtype != other.dtype or one.shape is None or other.shape is None:
            return one.dtype == other.dtype
        pairs = zip(one.shape, other.shape, strict=False)
        return len(one.shape) == len(other.shape) and all(first is None or second is None or first == second for first, second in pairs)
    if isinstance(one, ListType) and isinstance(other, ListType):
        return compatible(one.element, other.element)
    return type(one) is type(other)


def _define(scope: dict[str, ValueType], where: str, values: tuple[NamedType, ...]) -> Iterator[Problem]:
    for value in values:
        if not value.name or len(value.name) > MAX_NAME:
            yield where, f"a name of 1 to {MAX_NAME} characters", str(len(value.name))
        elif value.name in scope:
            yield where, "a name that is not in use", value.name[:80]
        scope[value.name] = value.type


def _types(operation: Operation) -> str:
    return ", ".join(str(output.type) for output in operation.outputs) or "none"
