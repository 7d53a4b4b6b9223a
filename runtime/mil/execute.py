"""Running planned steps: values in a dictionary, freed after their last use, states written in place where nobody can tell.

Here: the order of work, rounding, states. Not here: what is decided before (plan.py), what an operation computes (ops/), arrays of hosts (runner.py).
Modes: `fp32` widens fp16 values and rounds nothing, so that what differs from a reference is wrong in the program; `fp16` computes in fp32 and
rounds every computed value that is declared fp16, as a device stores it, so that loss of precision and overflow show.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from interlock.errors import ContractError, Violation
from runtime.mil.ops.slices import selection, write_slice
from runtime.mil.plan import BlockPlan, Output, Source, Step, on_host

Mode = Literal["fp32", "fp16"]
Values = dict[str, Tensor]
# Told of every result: the place of its operation as messages name it, its name, and its value as this mode settles it. The tensor may be a
# view of a state or of another value: it holds only during the call, and nobody may change it.
Observe = Callable[[str, str, Tensor], None]
# A loop that a real program would not run: a mistake in its condition.
MAX_ITERATIONS = 1_000_000
_EXPECTED = (RuntimeError, ValueError, IndexError, TypeError, NotImplementedError, OverflowError)


class Execution:
    """One run of a function. states: by name, replaced or written in place as the program goes; observe: see there."""

    def __init__(self, path: str, mode: Mode, states: Values, observe: Observe | None = None) -> None:
        self._path, self._half, self._states, self._observe = path, mode == "fp16", states, observe

    def run(self, plan: BlockPlan, values: Values, depth: int = 0) -> tuple[Tensor, ...]:
        """The outputs of a block, given the values that it sees; its own values are freed from `values` as it goes."""
        for step in plan.steps:
            try:
                results = self._step(step, values, depth)
            except _EXPECTED as problem:
                raise self._refusal(step, "operands that fit the operation", f"{type(problem).__name__}: {problem}") from problem
            if len(results) != len(step.outputs):
                raise self._refusal(step, f"{len(step.outputs)} results", str(len(results)))
            for output, result in zip(step.outputs, results, strict=True):
                values[output.name] = self._settled(step, output, result)
                if self._observe is not None:
                    self._observe(step.place, output.name, values[output.name])
            for name in step.free:
                values.pop(name, None)
        return tuple(values[name] if name in values else plan.constants[name] for name in plan.outputs)

    def _step(self, step: Step, values: Values, depth: int) -> tuple[Tensor, ...]:
        if step.entry is None:
            return _STRUCTURE[step.kind](self, step, values, depth)
        arguments = self._arguments(step, values)
        if step.state and depth == 0 and self._updated_in_place(step, arguments, values):
            return (arguments["x"],)
        result = step.entry.run(**arguments)
        return result if isinstance(result, tuple) else (result,)

    def _arguments(self, step: Step, values: Values) -> dict[str, Any]:
        arguments = dict(step.fixed)
        for source in step.sources:
            arguments[source.parameter] = _value(source, values)
        return arguments

    def _settled(self, step: Step, output: Output, value: Tensor) -> Tensor:
        """A result in its declared type. Raises ContractError if its shape is not the declared one."""
        if not output.type.admits(tuple(value.shape)):
            raise self._refusal(step, f"`{output.name}` as {output.type}", f"shape {list(value.shape)}")
        # reading a state and control flow move values that are rounded already
        if self._half and output.half and step.entry is not None and not step.entry.moves:
            return rounded(value).to(output.carrier)
        return value if value.dtype == output.carrier else value.to(output.carrier)

    def _updated_in_place(self, step: Step, arguments: Mapping[str, Any], values: Values) -> bool:
        """Write a slice into the state itself, if no value that is used later, no output and not the update can see the difference."""
        state, x, update = self._states[step.state], arguments["x"], arguments["update"]
        if x.data_ptr() != state.data_ptr() or x.shape != state.shape or x.stride() != state.stride() or update.numel() == 0:
            return False
        later = [value for name, value in values.items() if name not in step.free]
        if any(_shares(value, state) for value in (update, *later)):
            return False
        options = (arguments.get(name) for name in ("stride", "begin_mask", "end_mask", "squeeze_mask"))
        write_slice(x, update, selection(x, arguments["begin"], arguments["end"], *options))
        return True

    def _read(self, step: Step, values: Values, depth: int) -> tuple[Tensor, ...]:
        return (self._states[step.state],)

    def _write(self, step: Step, values: Values, depth: int) -> tuple[Tensor, ...]:
        data, state = self._arguments(step, values)["data"], self._states[step.state]
        same = data.data_ptr() == state.data_ptr() and data.shape == state.shape and data.stride() == state.stride()
        # A state owns its memory: values that were read from the old one keep it, and no array of the host is ever written.
        if not same:
            self._states[step.state] = data.clone(memory_format=torch.contiguous_format)
        return ()

    def _branch(self, step: Step, values: Values, depth: int) -> tuple[Tensor, ...]:
        chosen = step.blocks[0 if bool(self._arguments(step, values)["pred"]) else 1]
        return self.run(chosen, dict(values), depth + 1)

    def _loop(self, step: Step, values: Values, depth: int) -> tuple[Tensor, ...]:
        condition, body = step.blocks
        carried: tuple[Tensor, ...] = self._arguments(step, values)["loop_vars"]
        for _ in range(MAX_ITERATIONS):
            if not bool(self._inner(condition, carried, values, depth)[0]):
                return carried
            carried = self._inner(body, carried, values, depth)
        raise ValueError(f"a loop of more than {MAX_ITERATIONS} rounds")

    def _inner(self, block: BlockPlan, carried: tuple[Tensor, ...], values: Values, depth: int) -> tuple[Tensor, ...]:
        named = {value.name: given for value, given in zip(block.inputs, carried, strict=True)}
        return self.run(block, {**values, **named}, depth + 1)

    def _refusal(self, step: Step, expected: str, found: str) -> ContractError:
        return ContractError(Violation(self._path, step.place, expected, found[:400]), remedy="convert again: the program contradicts itself")


_STRUCTURE = {
    "read_state": Execution._read,
    "write_state": Execution._write,
    "cond": Execution._branch,
    "while_loop": Execution._loop,
}


def rounded(value: Tensor) -> Tensor:
    """To the nearest fp16 number, infinite from 65520 up; still held in fp32."""
    return value.half().float()


def _value(source: Source, values: Values) -> Any:
    if isinstance(source.value, tuple):
        return tuple(values[part] if isinstance(part, str) else part for part in source.value)
    value = values[source.value]
    return value if source.given == "Tensor" else on_host(value.tolist(), source.given)


def _shares(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
