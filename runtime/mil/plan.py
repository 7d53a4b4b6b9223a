"""From a function to steps: every parameter bound, every constant ready, every value's last use known.

Here: everything that is decided before a run, and refusing what is not supported, by name, before any of it runs. Not here: running (execute.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import runtime.mil.ops  # noqa: F401  (fills the table)
from interlock.errors import ContractError, Violation
from runtime.mil.ops.registry import CONSTANT_OPERATIONS, OPERATIONS, Entry, Given, Parameter
from runtime.mil.program import Binding, Block, Constant, Function, NamedType, Operation, Program, TensorType
from runtime.mil.sweep import uses
from runtime.mil.weights import CARRIERS, Fixed, Weights

# Done by the executor: they need states, blocks or the values around them.
STRUCTURE = {
    "const": "test_plan.py::test_constants_are_bound_once",
    "read_state": "test_states.py::test_a_chain_of_updates_equals_pure_functions",
    "write_state": "test_states.py::test_a_chain_of_updates_equals_pure_functions",
    "cond": "test_control_flow.py::test_cond_runs_one_branch",
    "while_loop": "test_control_flow.py::test_while_loop_counts",
}


@dataclass(frozen=True, slots=True)
class Output:
    """carrier: the type that holds it; half: declared fp16, so that a result that is computed is rounded in fp16 mode."""

    name: str
    type: TensorType
    carrier: torch.dtype
    half: bool


@dataclass(frozen=True, slots=True)
class Source:
    """A parameter whose value is known only in a run: of one name, or of several names and tensors."""

    parameter: str
    given: Given
    value: str | tuple[str | Tensor, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One operation. free: names that nothing after it uses; state: for a slice_update, the state whose next use is being overwritten with
    its result, for reads and writes the state itself; blocks: of control flow."""

    kind: str
    place: str
    entry: Entry | None
    fixed: Mapping[str, Any]
    sources: tuple[Source, ...]
    outputs: tuple[Output, ...]
    free: tuple[str, ...]
    state: str
    blocks: tuple[BlockPlan, ...]


@dataclass(frozen=True, slots=True)
class BlockPlan:
    inputs: tuple[Output, ...]
    steps: tuple[Step, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, Tensor]


def plan_function(program: Program, function: Function, weights: Weights) -> BlockPlan:
    """The steps of a function. Raises ContractError that names every operation, parameter or value type that is not supported."""
    refused = list(unsupported(function))
    if refused:
        raise ContractError(
            *(Violation(str(program.path), f"functions/{function.name}/{place}", expected, found) for place, expected, found in refused),
            remedy="convert without these operations, or add them to runtime/mil/ops",
        )
    return _Planner(program, function, weights).block(function.block, {})


def unsupported(function: Function) -> Iterator[tuple[str, str, str]]:
    """(place, expected, found) of everything in a function that the runner does not do."""
    counted: Counter[tuple[str, str]] = Counter()
    for operation in function.operations():
        for expected, found in _refusals(operation):
            counted[expected, found] += 1
            if counted[expected, found] == 1:
                yield f"{operation.type} `{operation.name}`", expected, found


def _refusals(operation: Operation) -> Iterator[tuple[str, str]]:
    if operation.type == "const":
        return
    parts = {"cond": 2, "while_loop": 2}.get(operation.type, 0)
    if len(operation.blocks) != parts:
        yield f"`{operation.type}` of {parts} blocks", str(len(operation.blocks))
    yield from _untyped(operation)
    if operation.type in STRUCTURE:
        required = set(_STRUCTURE_PARAMETERS.get(operation.type, {}))
        if not required <= set(operation.inputs):
            yield f"`{operation.type}` with {sorted(required)}", f"{sorted(operation.inputs)}"
        return
    entry = OPERATIONS.get(operation.type) or CONSTANT_OPERATIONS.get(operation.type)
    if entry is None:
        yield "an operation of the runner", f"`{operation.type}`"
        return
    given = set(operation.inputs) | (set(operation.attributes) - {"name"} if operation.type.startswith("constexpr_") else set())
    required = {parameter.name for parameter in entry.parameters.values() if parameter.required}
    if given - set(entry.parameters) or required - given:
        yield f"`{operation.type}` with {sorted(entry.parameters)}, of these {sorted(required)}", f"{sorted(given)}"


def _untyped(operation: Operation) -> Iterator[tuple[str, str]]:
    for output in (*operation.outputs, *(value for block in operation.blocks for value in block.inputs)):
        if not isinstance(output.type, TensorType) or output.type.dtype not in CARRIERS:
            yield f"`{operation.type}` of a tensor of numbers", str(output.type)


class _Planner:
    def __init__(self, program: Program, function: Function, weights: Weights) -> None:
        self._program, self._function, self._weights = program, function, weights

    def block(self, block: Block, outer: Mapping[str, Fixed]) -> BlockPlan:
        """outer: the constants that the blocks around define."""
        constants = dict(outer)
        last = _last_uses(block)
        steps: list[Step] = []
        for index, operation in enumerate(block.operations):
            if operation.type == "const":
                constants[operation.outputs[0].name] = operation.attributes["val"]
            elif operation.type in CONSTANT_OPERATIONS:
                self._compute(operation, constants)
            else:
                free = tuple(name for name in last.get(index, ()) if name not in constants)
                steps.append(self._step(block, index, constants, free))
        try:
            named = {name: self._weights.tensor(constants[name]) for name in block.outputs if name in constants}
        except TypeError as problem:
            place = Violation(str(self._program.path), f"functions/{self._function.name}/outputs", "numbers", str(problem))
            raise ContractError(place, remedy="convert again") from problem
        return BlockPlan(tuple(map(_output, block.inputs)), tuple(steps), block.outputs, named)

    def _compute(self, operation: Operation, constants: dict[str, Fixed]) -> None:
        given: dict[str, Fixed] = {name: value for name, value in operation.attributes.items() if name != "name"}
        for name, bindings in operation.inputs.items():
            value = _constant(bindings[0], constants)
            if value is None:
                raise self._refusal(operation, f"a constant as `{name}`", "a value of the run")
            given[name] = value
        try:
            results = self._weights.computed(operation, given)
        except (ValueError, IndexError, TypeError, KeyError, OverflowError) as problem:
            raise self._refusal(operation, "constants that fit each other", str(problem)) from problem
        if len(results) != len(operation.outputs):
            raise self._refusal(operation, f"{len(results)} outputs", str(len(operation.outputs)))
        for output, result in zip(operation.outputs, results, strict=True):
            if not isinstance(output.type, TensorType) or not output.type.admits(result.array().shape):
                raise self._refusal(operation, str(output.type), f"shape {list(result.array().shape)}")
            constants[output.name] = result

    def _step(self, block: Block, index: int, constants: Mapping[str, Fixed], free: tuple[str, ...]) -> Step:
        operation = block.operations[index]
        place = f"functions/{self._function.name}/{operation.type} `{operation.name}`"
        blocks = tuple(self.block(inner, constants) for inner in operation.blocks)
        outputs = tuple(map(_output, operation.outputs))
        entry = OPERATIONS.get(operation.type)
        parameters = _STRUCTURE_PARAMETERS.get(operation.type, {}) if entry is None else entry.parameters
        fixed: dict[str, Any] = {}
        sources: list[Source] = []
        for name, parameter in parameters.items():
            if name in operation.inputs:
                value = self._bind(operation, parameter, operation.inputs[name], constants)
                sources.append(value) if isinstance(value, Source) else fixed.update({name: value})
        return Step(operation.type, place, entry, fixed, tuple(sources), outputs, free, _state(block, index), blocks)

    def _bind(self, operation: Operation, parameter: Parameter, bindings: tuple[Binding, ...], constants: Mapping[str, Fixed]) -> Any:
        values = [_constant(binding, constants) for binding in bindings]
        try:
            if parameter.given == "Tensors":
                parts = [self._weights.tensor(value) if value is not None else str(name) for value, name in zip(values, bindings, strict=True)]
                return Source(parameter.name, "Tensors", tuple(parts))
            if len(values) != 1:
                raise TypeError(f"{len(values)} values")
            value = values[0]
            if value is None:
                if parameter.given == "str":
                    raise TypeError("a value of the run")
                return Source(parameter.name, parameter.given, str(bindings[0]))
            fixed = self._weights.tensor(value) if parameter.given == "Tensor" else on_host(_listed(value), parameter.given)
        except (TypeError, ValueError, OverflowError) as problem:
            raise self._refusal(operation, f"`{parameter.name}` as {parameter.given}", str(problem)) from problem
        entry = OPERATIONS.get(operation.type)
        choices = entry.choices.get(parameter.name) if entry else None
        if choices is not None and fixed not in choices:
            raise self._refusal(operation, f"`{parameter.name}` among {sorted(choices)}", f"`{fixed}`")
        return fixed

    def _refusal(self, operation: Operation, expected: str, found: str) -> ContractError:
        place = f"functions/{self._function.name}/{operation.type} `{operation.name}`"
        return ContractError(Violation(str(self._program.path), place, expected, found), remedy="convert again, or add the case to runtime/mil/ops")


_STRUCTURE_PARAMETERS: dict[str, dict[str, Parameter]] = {
    "write_state": {"data": Parameter("data", "Tensor", True)},
    "cond": {"pred": Parameter("pred", "Tensor", True)},
    "while_loop": {"loop_vars": Parameter("loop_vars", "Tensors", True)},
}


def on_host(value: Any, given: Given) -> Any:
    """A number, string or (nested) list as what a parameter takes. Raises TypeError if it is none."""
    if given == "Ints":
        items = value if isinstance(value, list) else [value]
        return tuple(int(item) for item in items)
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, list) or isinstance(value, str) != (given == "str"):
        raise TypeError(f"{value!r}"[:80])
    return {"int": int, "float": float, "bool": bool, "str": str}[given](value)


def _listed(value: Fixed) -> Any:
    if isinstance(value, Constant) and isinstance(value.content, tuple):
        return list(value.content)
    return value.array().tolist()


def _constant(binding: Binding, constants: Mapping[str, Fixed]) -> Fixed | None:
    return constants.get(binding) if isinstance(binding, str) else binding


def _output(value: NamedType) -> Output:
    if not isinstance(value.type, TensorType):
        raise TypeError(f"{value.type}")
    return Output(value.name, value.type, CARRIERS[value.type.dtype], value.type.dtype.mil == "fp16")


def _last_uses(block: Block) -> dict[int, set[str]]:
    """By operation, the names of this block that it is the last to use; what the block returns is used for ever."""
    last: dict[str, int] = {}
    for index, operation in enumerate(block.operations):
        for name in uses(operation):
            last[name] = index
        # a result that nobody uses is gone after its operation
        last.update({output.name: index for output in operation.outputs})
    own = {output.name for operation in block.operations for output in operation.outputs} | {value.name for value in block.inputs}
    found: dict[int, set[str]] = {}
    for name, index in last.items():
        if name in own and name not in block.outputs:
            found.setdefault(index, set()).add(name)
    return found


def _state(block: Block, index: int) -> str:
    """The state that an operation reads or writes, or for a slice_update the state that its result replaces before anything else touches it."""
    operation = block.operations[index]
    if operation.type in ("read_state", "write_state"):
        return str(operation.inputs["input"][0])
    if operation.type != "slice_update":
        return ""
    result = operation.outputs[0].name
    for place in range(index + 1, len(block.operations)):
        later = block.operations[place]
        if later.type == "write_state" and later.inputs["data"] == (result,):
            state = str(later.inputs["input"][0])
            return "" if any(_touches(other, state) for other in block.operations[index + 1 : place]) else state
    return ""


def _touches(operation: Operation, state: str) -> bool:
    if operation.type in ("read_state", "write_state") and operation.inputs["input"] == (state,):
        return True
    return any(_touches(inner, state) for block in operation.blocks for inner in block.operations)
