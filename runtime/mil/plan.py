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
from runtime.mil.budget import fits
from runtime.mil.ops.classify import names
from runtime.mil.ops.registry import CONSTANT_OPERATIONS, OPERATIONS, Entry, Given, Parameter
from runtime.mil.program import (
    Binding,
    Block,
    Constant,
    DataType,
    DictionaryType,
    Function,
    ListType,
    NamedType,
    Operation,
    Program,
    TensorType,
    ValueType,
)
from runtime.mil.weights import CARRIERS, Computed, Fixed, Matrix, Weights

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
    """One operation. entry: how it is computed, None for STRUCTURE; state: the one that it reads or writes, else empty; blocks: of control flow."""

    kind: str
    place: str
    entry: Entry | None
    fixed: Mapping[str, Any]
    sources: tuple[Source, ...]
    outputs: tuple[Output, ...]
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
        kind = held(output.type)
        if kind is None or kind.dtype not in CARRIERS or (isinstance(output.type, (DictionaryType, ListType)) and operation.type not in _HOLDERS):
            yield f"`{operation.type}` of a tensor of numbers", str(output.type)
        elif kind.shape is not None and None not in kind.shape and not fits(kind.shape):
            yield "a value that fits into the memory that is free", str(kind)


class _Planner:
    def __init__(self, program: Program, function: Function, weights: Weights) -> None:
        self._program, self._function, self._weights = program, function, weights

    def block(self, block: Block, outer: Mapping[str, Fixed]) -> BlockPlan:
        """outer: the constants that the blocks around define."""
        constants = dict(outer)
        steps: list[Step] = []
        for operation in block.operations:
            if operation.type == "const":
                constants[operation.outputs[0].name] = operation.attributes["val"]
            elif operation.type in CONSTANT_OPERATIONS:
                self._compute(operation, constants)
            else:
                steps.append(self._step(operation, constants))
        try:
            named = {name: self._weights.tensor(constants[name]) for name in block.outputs if name in constants}
        except (TypeError, ValueError) as problem:
            place = Violation(str(self._program.path), f"functions/{self._function.name}/outputs", "numbers", str(problem))
            raise ContractError(place, remedy="convert again") from problem
        return BlockPlan(tuple(map(output_of, block.inputs)), tuple(steps), block.outputs, named)

    def _compute(self, operation: Operation, constants: dict[str, Fixed]) -> None:
        given: dict[str, Fixed] = {name: value for name, value in operation.attributes.items() if name != "name"}
        for name, bindings in operation.inputs.items():
            value = _constant(bindings[0], constants)
            if value is None:
                raise self._refusal(operation, f"a constant as `{name}`", "a value of the run")
            given[name] = value
        for at, output in enumerate(operation.outputs):
            constants[output.name] = Computed(operation, given, at)

    def _step(self, operation: Operation, constants: Mapping[str, Fixed]) -> Step:
        place = f"functions/{self._function.name}/{operation.type} `{operation.name}`"
        blocks = tuple(self.block(inner, constants) for inner in operation.blocks)
        outputs = tuple(map(output_of, operation.outputs))
        entry = OPERATIONS.get(operation.type)
        parameters = _STRUCTURE_PARAMETERS.get(operation.type, {}) if entry is None else entry.parameters
        fixed: dict[str, Any] = {}
        sources: list[Source] = []
        for name, parameter in parameters.items():
            if name in operation.inputs:
                value = self._bind(operation, parameter, operation.inputs[name], constants)
                sources.append(value) if isinstance(value, Source) else fixed.update({name: value})
        state = str(operation.inputs["input"][0]) if operation.type in ("read_state", "write_state") else ""
        return Step(operation.type, place, entry, fixed, tuple(sources), outputs, state, blocks)

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
                if parameter.given in ("str", "Names"):
                    raise TypeError("a value of the run")
                return Source(parameter.name, parameter.given, str(bindings[0]))
            if (operation.type, parameter.name) in _MATRICES and _is_matrix(value):
                return Matrix((value,))
            if parameter.given == "Names" and isinstance(value, Constant):
                return names(value)
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


# What may give other values than tensors.
_HOLDERS = frozenset({"make_list", "list_write", "list_scatter", "cond", "while_loop", "classify"})
_STRUCTURE_PARAMETERS: dict[str, dict[str, Parameter]] = {
    "write_state": {"data": Parameter("data", "Tensor", True)},
    "cond": {"pred": Parameter("pred", "Tensor", True)},
    "while_loop": {"loop_vars": Parameter("loop_vars", "Tensors", True)},
}


# Parameters whose constants are laid out for what is done with them.
_MATRICES = {("linear", "weight"), ("gather", "x")}


def _is_matrix(value: Fixed) -> bool:
    kind = value.type
    return isinstance(kind, TensorType) and kind.shape is not None and len(kind.shape) == 2 and CARRIERS[kind.dtype] is torch.float32


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


def held(kind: ValueType) -> TensorType | None:
    """The tensor that stands for a value while computing: a list of equal tensors is one [length, ...] (ops/lists.py), a class its place among
    the classes and their probabilities one [classes] (ops/classify.py). None for what no operation makes.
    """
    if isinstance(kind, ListType) and isinstance(kind.element, TensorType):
        return TensorType(kind.element.dtype, None if kind.element.shape is None else (None, *kind.element.shape))
    if isinstance(kind, DictionaryType):
        return TensorType(DataType.FLOAT64, (None,))
    if isinstance(kind, TensorType):
        return TensorType(DataType.INT64, kind.shape) if kind.dtype is DataType.STRING else kind
    return None


def is_numbers(kind: ValueType) -> bool:
    """Whether a value of this type is a tensor that computing can hold."""
    return isinstance(kind, TensorType) and kind.dtype in CARRIERS


def output_of(value: NamedType) -> Output:
    kind = held(value.type)
    if kind is None:
        raise TypeError(f"{value.type}")
    return Output(value.name, kind, CARRIERS[kind.dtype], kind.dtype.mil == "fp16")
