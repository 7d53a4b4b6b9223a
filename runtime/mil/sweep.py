"""A function in two parts: what does not depend on one input, and what does.

Here: the split. Not here: running the parts (runner.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from interlock.errors import UsageError
from runtime.mil.program import Block, Function, NamedType, Operation


def split_at(function: Function, name: str) -> tuple[Function, Function]:
    """(before, after): `before` computes what does not depend on input `name` and returns what `after` needs of it; `after` takes that and
    `name`, and returns what the function returns. States belong to `before`.

    Raises UsageError if the function has no such input, or if an operation that depends on it reads or writes a state.
    """
    if name not in {value.name for value in function.inputs}:
        raise UsageError(f"`{function.name}` has no input `{name}`", remedy=f"its inputs are {sorted(value.name for value in function.inputs)}")
    reached, first, second = {name}, list[Operation](), list[Operation]()
    for operation in function.block.operations:
        if operation.type == "const" or operation.type.startswith("constexpr_"):
            first.append(operation)
            second.append(operation)
        elif reached.isdisjoint(uses(operation)):
            first.append(operation)
        else:
            if _has_states(operation):
                raise UsageError(f"the state of `{function.name}` depends on `{name}` (`{operation.type}`)", remedy="call `run` for each value")
            second.append(operation)
            reached |= {output.name for output in operation.outputs}
    kept = _kept(function, name, first, second)
    before = replace(
        function,
        inputs=tuple(value for value in function.inputs if value.name != name),
        block=Block((), tuple(value.name for value in kept), tuple(first)),
    )
    swept = tuple(value for value in function.inputs if value.name == name)
    after = replace(function, inputs=(*swept, *kept), states=(), block=Block((), function.block.outputs, tuple(second)))
    return before, after


def uses(operation: Operation) -> Iterator[str]:
    """The names that an operation takes, those that its blocks take or return included."""
    for bindings in operation.inputs.values():
        yield from (binding for binding in bindings if isinstance(binding, str))
    for block in operation.blocks:
        yield from block.outputs
        for inner in block.operations:
            yield from uses(inner)


def _kept(function: Function, name: str, first: list[Operation], second: list[Operation]) -> list[NamedType]:
    """The values that the second part takes from the first."""
    needed = {used for operation in second for used in uses(operation)} | set(function.block.outputs)
    known = {output.name for operation in second for output in operation.outputs} | {name}
    offered = [*function.inputs, *(output for operation in first for output in operation.outputs)]
    return [value for value in offered if value.name in needed - known]


def _has_states(operation: Operation) -> bool:
    """Reading counts too: inside a branch it would come too late."""
    return operation.type in ("read_state", "write_state") or any(_has_states(inner) for block in operation.blocks for inner in block.operations)
