"""From planned steps to instructions: one closure per step over a list of registers.

Here: registers, order, what is freed when. Not here: what may be done in another way (lower.py, matrices.py, attention.py, inplace.py), rounding
and checking of results (results.py), running (execute.py).

Register 0 holds the run itself (`Frame`); constants stand in registers of their own and are never freed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from torch import Tensor

from runtime.mil import attention
from runtime.mil.inplace import in_place, last_uses, steady_states
from runtime.mil.lower import Lower, Lowered, Types, lower
from runtime.mil.matrices import is_lookup, linear, lookup
from runtime.mil.ops.slices import selection, write_slice
from runtime.mil.plan import BlockPlan, Output, Source, Step, is_numbers, on_host, output_of
from runtime.mil.program import Function
from runtime.mil.results import Go, Registers, Settle, gathering, many, move, nothing, one, settling, two
from runtime.mil.update import cuts, end_of_slots, writer
from runtime.mil.views import KIND, lower_view
from runtime.mil.weights import Matrix, Weights

T = TypeVar("T")
R = TypeVar("R")
# A loop that a real program would not run: a mistake in its condition.
MAX_ITERATIONS = 1_000_000


class Unusable(Exception):
    """A step whose constants do not fit each other."""

    def __init__(self, step: Step, problem: str) -> None:
        super().__init__(step, problem)
        self.step, self.problem = step, problem


@dataclass(frozen=True, slots=True)
class Instruction:
    """free: registers that nothing after it uses; results: names and registers of what it computes."""

    go: Go
    step: Step
    free: tuple[int, ...]
    results: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Code:
    """A block. inputs, outputs: registers, in the order of the block."""

    inputs: tuple[int, ...]
    instructions: tuple[Instruction, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Compiled:
    """A function. registers: what every run starts from; inputs, states: register by name."""

    code: Code
    registers: Registers
    inputs: Mapping[str, int]
    states: Mapping[str, int]


RunBlock = Callable[[Code, Registers], tuple[Tensor, ...]]


class Compiler:
    """Of one function. half: whether results that are declared fp16 are rounded; run_block: how nested blocks are run; more: ways to compute
    kinds of steps that no program has, but a rewrite."""

    def __init__(self, weights: Weights, run_block: RunBlock, *, half: bool, more: Mapping[str, Lower] = MappingProxyType({})) -> None:
        self._weights, self._run_block, self._half, self._more = weights, run_block, half, {KIND: lower_view, **more}
        self._registers: Registers = [None]
        self._constants: dict[int, int] = {}
        self._states: dict[str, int] = {}

    def function(self, function: Function, plan: BlockPlan) -> Compiled:
        """plan: of this function. Raises Unusable for constants that cannot be computed."""
        self._states = {value.name: self._new() for value in function.states}
        inputs = {value.name: self._new() for value in function.inputs}
        types = {value.name: output_of(value) for value in function.inputs if is_numbers(value.type)}
        return Compiled(self._block(plan, inputs, types, nested=False), self._registers, inputs, self._states)

    def _block(self, plan: BlockPlan, outer: Mapping[str, int], outer_types: Types, *, nested: bool) -> Code:
        own = [*plan.inputs, *(output for step in plan.steps for output in step.outputs)]
        scope = {**outer, **{name: self._constant(tensor) for name, tensor in plan.constants.items()}, **{value.name: self._new() for value in own}}
        types = {**outer_types, **{value.name: value for value in own}}
        direct = {} if nested else in_place(plan.steps, plan.outputs, tuple(self._states))
        free = freed(plan)
        instructions = []
        steady = frozenset[str]() if nested else steady_states(plan, tuple(self._states), direct)
        for at, step in enumerate(plan.steps):
            if (step.state if step.kind == "read_state" else direct.get(at)) in steady:
                scope.update({output.name: self._states[step.state or direct[at]] for output in step.outputs})
            go = self._go(step, scope, types, direct.get(at, ""))
            results = tuple((output.name, scope[output.name]) for output in step.outputs)
            last = {scope[name] for name in free.get(at, ())} - set(self._states.values())
            instructions.append(Instruction(go, step, tuple(last), results))
        inputs = tuple(scope[value.name] for value in plan.inputs)
        return Code(inputs, tuple(instructions), tuple(scope[name] for name in plan.outputs))

    def _go(self, step: Step, scope: Mapping[str, int], types: Types, direct: str) -> Go:
        """direct: the state that may be written in place, if any."""
        if step.kind == "write_state":
            return self._write(step, scope, direct)
        if step.kind == "read_state":
            source, out = self._states[step.state], scope[step.outputs[0].name]
            return move(source, out) if source != out else nothing
        if step.kind == "cond":
            return self._branch(step, scope, types)
        if step.kind == "while_loop":
            return self._loop(step, scope, types)
        if direct:
            return self._update(step, scope, types, direct)
        if step.kind == attention.KIND:
            return self._attention(step, scope)
        lowered = self._more[step.kind](step, types) if step.kind in self._more else self._on_matrix(step, types) or lower(step, types)
        return self._general(step, scope) if lowered is None else self._short(step, scope, lowered)

    def _on_matrix(self, step: Step, types: Types) -> Lowered | None:
        """An operation on a constant matrix, whose layout is chosen for it."""
        if step.kind == "linear" and isinstance(weight := step.fixed.get("weight"), Matrix):
            return linear(_of(step, self._weights.product, weight), step, types)
        if step.kind == "gather" and isinstance(table := step.fixed.get("x"), Matrix) and is_lookup(step, table):
            return lookup(_of(step, self._weights.rows, table), table.shape[0]), ("indices",)
        return None

    def _short(self, step: Step, scope: Mapping[str, int], lowered: Lowered) -> Go:
        compute, parameters = lowered
        (output,) = step.outputs
        settle, out = self._settle(step, output), scope[output.name]
        if parameters == ("values",):
            return gathering(compute, self._several(step, "values", scope), out, settle)
        registers = [self._operand(step, parameter, scope) for parameter in parameters]
        if len(registers) == 1:
            return one(compute, registers[0], out, settle)
        if len(registers) == 2:
            return two(compute, registers[0], registers[1], out, settle)
        return many(compute, tuple(registers), out, settle)

    def _general(self, step: Step, scope: Mapping[str, int]) -> Go:
        """By the operation's own function, with everything that it may take."""
        arguments, results = self._arguments(step, scope), [(self._settle(step, output), scope[output.name]) for output in step.outputs]
        assert step.entry is not None
        run = step.entry.run

        def go(registers: Registers) -> None:
            found = run(**arguments(registers))
            parts = found if isinstance(found, tuple) else (found,)
            for part, (settle, out) in zip(parts, results, strict=True):
                registers[out] = settle(part)

        return go

    def _update(self, step: Step, scope: Mapping[str, int], types: Types, state: str) -> Go:
        """A slice written into the state itself."""
        arguments, x, out = self._arguments(step, scope), self._states[state], scope[step.outputs[0].name]
        masks = ("stride", "begin_mask", "end_mask", "squeeze_mask")

        def go(registers: Registers) -> None:
            given = arguments(registers)
            places = selection(registers[x], given["begin"], given["end"], *(given.get(name) for name in masks))
            write_slice(registers[x], given["update"], places)
            registers[0].slots.wrote(state, end_of_slots(registers[x], places))
            registers[out] = registers[x]

        found = cuts(step, scope, types)
        if found is None:
            return go
        write, update = writer(found), self._operand(step, "update", scope)

        def short(registers: Registers) -> None:
            end = write(registers, registers[x], registers[update])
            if end < 0:
                return go(registers)
            registers[0].slots.wrote(state, end)
            registers[out] = registers[x]
            return None

        return short

    def _write(self, step: Step, scope: Mapping[str, int], direct: str) -> Go:
        if direct:
            return nothing  # the state's memory holds it already
        state, data, name = self._states[step.state], self._operand(step, "data", scope), step.state

        def go(registers: Registers) -> None:
            # A state owns its memory: values that were read from the old one keep it, and no array of the host is ever written.
            registers[state] = registers[data].clone(memory_format=torch.contiguous_format)
            registers[0].slots.replaced(name)

        return go

    def _attention(self, step: Step, scope: Mapping[str, int]) -> Go:
        query, key, value, mask = (self._operand(step, name, scope) for name in ("query", "key", "value", "attn_mask"))
        settle, out = self._settle(step, step.outputs[0]), scope[step.outputs[0].name]
        group, states = step.fixed["group"], step.fixed["states"]

        def go(registers: Registers) -> None:
            cut, hidden = registers[0].slots.cut(registers[mask], states, registers[key].shape[2])
            registers[out] = settle(attention.attend(registers[query], registers[key], registers[value], registers[mask], group, cut, hidden))

        return go

    def _branch(self, step: Step, scope: Mapping[str, int], types: Types) -> Go:
        chosen, run = [self._block(block, scope, types, nested=True) for block in step.blocks], self._run_block
        condition, results = self._operand(step, "pred", scope), [(self._settle(step, output), scope[output.name]) for output in step.outputs]

        def go(registers: Registers) -> None:
            found = run(chosen[0 if bool(registers[condition]) else 1], registers)
            for part, (settle, out) in zip(found, results, strict=True):
                registers[out] = settle(part)

        return go

    def _loop(self, step: Step, scope: Mapping[str, int], types: Types) -> Go:
        (condition, body), run = (self._block(block, scope, types, nested=True) for block in step.blocks), self._run_block
        first, results = self._several(step, "loop_vars", scope), [(self._settle(step, output), scope[output.name]) for output in step.outputs]

        def inner(code: Code, registers: Registers, carried: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            for register, value in zip(code.inputs, carried, strict=True):
                registers[register] = value
            return run(code, registers)

        def go(registers: Registers) -> None:
            carried = tuple(registers[register] for register in first)
            for _ in range(MAX_ITERATIONS):
                if not bool(inner(condition, registers, carried)[0]):
                    break
                carried = inner(body, registers, carried)
            else:
                raise ValueError(f"a loop of more than {MAX_ITERATIONS} rounds")
            for part, (settle, out) in zip(carried, results, strict=True):
                registers[out] = settle(part)

        return go

    def _arguments(self, step: Step, scope: Mapping[str, int]) -> Callable[[Registers], dict[str, Any]]:
        """By parameter, what an operation takes."""
        fixed = {name: _of(step, self._weights.tensor, value.parts[0]) if isinstance(value, Matrix) else value for name, value in step.fixed.items()}
        single = [(source.parameter, scope[source.value], source.given) for source in step.sources if isinstance(source.value, str)]
        several = [
            (source.parameter, self._several(step, source.parameter, scope))
            for source in step.sources
            if isinstance(source.value, tuple) and source.given == "Tensors"
        ]
        lists = [
            (source.parameter, self._integers(source, scope)) for source in step.sources if isinstance(source.value, tuple) and source.given == "Ints"
        ]

        def arguments(registers: Registers) -> dict[str, Any]:
            given = dict(fixed)
            for name, register, kind in single:
                given[name] = registers[register] if kind == "Tensor" else on_host(registers[register].tolist(), kind)
            for name, places in several:
                given[name] = tuple(registers[place] for place in places)
            for name, parts in lists:
                given[name] = parts(registers)
            return given

        return arguments

    def _operand(self, step: Step, parameter: str, scope: Mapping[str, int]) -> int:
        """The register of a tensor."""
        if parameter in step.fixed:
            fixed = step.fixed[parameter]
            return self._constant(_of(step, self._weights.tensor, fixed.parts[0]) if isinstance(fixed, Matrix) else fixed)
        (name,) = (source.value for source in step.sources if source.parameter == parameter)
        return scope[str(name)]

    def _several(self, step: Step, parameter: str, scope: Mapping[str, int]) -> tuple[int, ...]:
        (source,) = (source for source in step.sources if source.parameter == parameter)
        return tuple(scope[part] if isinstance(part, str) else self._constant(part) for part in source.value)

    def _integers(self, source: Source, scope: Mapping[str, int]) -> Callable[[Registers], tuple[int, ...]]:
        """A list of integers of which some are known only in a run."""
        known = [0 if isinstance(part, str) else int(part) for part in source.value]
        varying = [(at, scope[part]) for at, part in enumerate(source.value) if isinstance(part, str)]

        def integers(registers: Registers) -> tuple[int, ...]:
            found = known.copy()
            for at, register in varying:
                found[at] = int(registers[register])
            return tuple(found)

        return integers

    def _settle(self, step: Step, output: Output) -> Settle:
        """To the declared type. Reading a state and control flow move values that are rounded already, and so does what only moves elements."""
        computed = step.entry is not None and not step.entry.moves
        return settling(output, half=self._half and output.half and computed)

    def _new(self) -> int:
        self._registers.append(None)
        return len(self._registers) - 1

    def _constant(self, tensor: Tensor) -> int:
        if id(tensor) not in self._constants:
            self._constants[id(tensor)] = self._new()
            self._registers[-1] = tensor
        return self._constants[id(tensor)]


def _of(step: Step, make: Callable[[T], R], constant: T) -> R:
    try:
        return make(constant)
    except ValueError as problem:
        raise Unusable(step, str(problem)) from problem


def freed(plan: BlockPlan) -> dict[int, tuple[str, ...]]:
    """By step, the values of this block that nothing after it uses; what a block returns is kept."""
    own = {value.name for value in plan.inputs} | {output.name for step in plan.steps for output in step.outputs}
    last = {output.name: at for at, step in enumerate(plan.steps) for output in step.outputs} | last_uses(plan.steps, plan.outputs)
    found: dict[int, tuple[str, ...]] = {}
    for name in sorted(name for name in own & set(last) if last[name] < len(plan.steps)):
        found[last[name]] = (*found.get(last[name], ()), name)
    return found
