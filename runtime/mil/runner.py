"""The runner: functions of a program, called with arrays.

Here: inputs and outputs of a host, states between calls. Not here: planning and executing (plan.py, execute.py).
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interlock.errors import ContractError, UsageError, Violation
from runtime.mil.attention import Extents, grouped
from runtime.mil.code import Compiled, Compiler, Unusable
from runtime.mil.execute import Frame, Mode, Observe, Values, execute, run_block
from runtime.mil.fast.packed import PackedWeights
from runtime.mil.fast.passes import LOWER, Visible, fast
from runtime.mil.ops.classify import classes
from runtime.mil.plan import BlockPlan, is_numbers, output_of, plan_function
from runtime.mil.program import Feature, Function, NamedType, Program, StateType, TensorType, ValueType
from runtime.mil.results import rounded
from runtime.mil.sweep import split_at
from runtime.mil.views import direct_lists, direct_views
from runtime.mil.weights import CARRIERS, Weights

Arrays = Mapping[str, NDArray[Any]]
_HELD = {dtype: torch.empty(0, dtype=carrier).numpy().dtype for dtype, carrier in CARRIERS.items()}


class State:
    """What a function keeps between calls, zero at first. Any function whose states have the same names and types may go on with it.

    A call that fails half way leaves it half written: it is then refused by every later call.
    """

    def __init__(self, types: Mapping[str, TensorType]) -> None:
        self.types = dict(types)
        self.tensors: dict[str, Tensor] = {name: torch.from_numpy(_zeros([size or 0 for size in kind.shape or ()], _HELD[kind.dtype]))
                                           for name, kind in types.items()}  # fmt: skip
        self.complete = True
        self._used = dict.fromkeys(self.tensors, 0)
        self._seen = self._versions()

    def array(self, name: str) -> NDArray[Any]:
        """A copy of one state, in the type that holds it while computing."""
        copy: NDArray[Any] = self.tensors[name].numpy().copy()
        return copy

    def used(self) -> dict[str, int]:
        """By state, the slots (second axis from the end) that may hold anything but zeros; states that others wrote to are left out."""
        now = self._versions()
        return {name: count for name, count in self._used.items() if self._seen[name] == now[name]}

    def ran(self, used: Mapping[str, int]) -> None:
        """A call is complete that left these slots used."""
        self._used, self._seen, self.complete = dict(used), self._versions(), True

    def _versions(self) -> dict[str, tuple[int, int]]:
        """torch counts the changes of every tensor, through its views too."""
        return {name: (tensor.data_ptr(), tensor._version) for name, tensor in self.tensors.items()}


@dataclass(frozen=True)
class _Planned:
    """A function that is ready to run. watched: the same with every value that the program names; returned: by output, see `Runner._returned`;
    classes: what places of classes mean, by output."""

    function: Function
    compiled: Compiled
    watched: Callable[[], Compiled]
    returned: Mapping[str, str | None]
    classes: Mapping[str, NDArray[Any]]


class Runner:
    """A program that can be run, in one mode. Functions are planned when first used; their weights are shared."""

    def __init__(self, program: Program, mode: Mode = "fp32") -> None:
        """Raises ValueError for another mode."""
        if mode not in get_args(Mode):
            raise ValueError(f"mode `{mode}`: one of {get_args(Mode)}")
        self.program, self.mode = program, mode
        self._weights = PackedWeights() if mode == "fast" else Weights()
        self._planned: dict[str, _Planned] = {}
        self._split: dict[tuple[str, str], tuple[_Planned, _Planned]] = {}

    def new_state(self, function: str) -> State:
        """States of a function, all zero. Raises UsageError if there is no such function, ContractError if they do not fit into memory."""
        types = _state_types(self._function(function))
        try:
            return State(types)
        except (OSError, ValueError, OverflowError, RuntimeError, MemoryError) as problem:
            place = Violation(str(self.program.path), f"functions/{function}/states", "states that fit into memory", str(problem)[:200])
            raise ContractError(place, remedy="convert with a shorter cache, or run on a larger machine") from problem

    @property
    def notes(self) -> tuple[str, ...]:
        """What this machine's means decided, in words: in mode `fast`, how weights are multiplied."""
        return self._weights.notes

    @property
    def weight_bytes(self) -> int:
        """Memory of the weights of all functions that are planned."""
        return self._weights.size_bytes

    def plan(self, function: str) -> None:
        """Make a function ready now, not at its first call. Raises UsageError, and ContractError for what cannot be run."""
        self._plan(self._function(function))

    def run(self, function: str, inputs: Arrays, state: State | None = None, observe: Observe | None = None) -> dict[str, NDArray[Any]]:
        """Call a function: {output: array}, in the order of the program. The arrays are the caller's own.

        inputs: by name; integers for integers, any floats for floats. Outputs have their declared types, but fp16 is
        returned as fp32 in modes that round nothing. state: needed iff the function has states; it is changed. observe: told of every result,
        those of nested blocks included, right after it is computed; nothing is rewritten then, so that every value of the program exists.
        Raises UsageError for inputs that do not fit, ContractError for a program that cannot be run (by name, before it runs) or contradicts itself.
        """
        planned = self._plan(self._function(function))
        values = self._values(planned.function, inputs)
        states = _checked(planned.function, state)
        return self._arrays(planned, self._execute(planned, values, states, state, observe), states)

    def sweep(
        self, function: str, inputs: Arrays, name: str, values: Iterable[NDArray[Any]], state: State | None = None
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """What `run` returns for each array of `values` as input `name`, in order, all else equal.

        What does not depend on that input is executed once, before this returns, and the state is written once, as by one run. inputs: as for
        `run`; `name` may be among them and is not used.
        Raises what `run` raises, and UsageError if there is no such input or what the function keeps as state depends on it.
        """
        called = self._function(function)
        if (function, name) not in self._split:
            parts = split_at(called, name)
            self._split[function, name] = (self._new_plan(parts[0]), self._new_plan(parts[1]))
        before, after = self._split[function, name]
        given = self._values(before.function, {key: array for key, array in inputs.items() if key != name})
        states = _checked(called, state)
        owned = {tensor.untyped_storage().data_ptr() for tensor in states.values()}
        # the state may be written by other calls while this one is iterated
        kept = {
            key: result.clone() if result.untyped_storage().data_ptr() in owned else result
            for key, result in zip(before.function.block.outputs, self._execute(before, given, states, state), strict=True)
        }
        return self._swept(after, kept, name, values)

    def _swept(self, after: _Planned, kept: Values, name: str, values: Iterable[NDArray[Any]]) -> Iterator[dict[str, NDArray[Any]]]:
        (swept,) = (value for value in after.function.inputs if value.name == name)
        for array in values:
            given = {**kept, name: self._given(after.function, swept, {name: array})}
            yield self._arrays(after, self._execute(after, given, {}), kept)

    def _execute(
        self, planned: _Planned, values: Values, states: Values, state: State | None = None, observe: Observe | None = None
    ) -> tuple[Tensor, ...]:
        compiled = planned.compiled if observe is None else planned.watched()
        used = state.used() if state is not None else {}
        slots = Visible(used) if self.mode == "fast" and observe is None else Extents(used)
        frame = Frame(str(self.program.path), slots, observe)
        if state is not None:
            state.complete = False
        with torch.no_grad():
            results = execute(compiled, values, states, frame)
        if state is not None:
            state.ran(slots.used)
        return results

    def _values(self, function: Function, inputs: Arrays) -> Values:
        """Every input as a tensor."""
        values = {value.name: self._given(function, value, inputs) for value in function.inputs}
        unknown = sorted(set(inputs) - set(values))
        if unknown:
            raise UsageError(f"`{function.name}` has no input {unknown}", remedy=f"its inputs are {sorted(values)}")
        return values

    def _function(self, name: str) -> Function:
        if name not in self.program.functions:
            raise UsageError(f"the package has no function `{name}`", remedy=f"its functions are {sorted(self.program.functions)}")
        return self.program.functions[name]

    def _plan(self, function: Function) -> _Planned:
        if function.name not in self._planned:
            self._planned[function.name] = self._new_plan(function)
        return self._planned[function.name]

    def _new_plan(self, function: Function) -> _Planned:
        plan = plan_function(self.program, function, self._weights)
        watched = cache(lambda: self._compiled(function, plan))
        types = {value.name: output_of(value) for value in function.inputs if is_numbers(value.type)}
        shorter = direct_views(fast(plan), types, LOWER) if self.mode == "fast" else direct_views(grouped(plan), types, {})
        compiled = self._compiled(function, direct_lists(shorter, types))
        return _Planned(function, compiled, watched, self._returned(function), classes(function))

    def _compiled(self, function: Function, plan: BlockPlan) -> Compiled:
        try:
            more = LOWER if self.mode == "fast" else {}
            return Compiler(self._weights, run_block, half=self.mode == "fp16", more=more).function(function, plan)
        except Unusable as problem:
            place = Violation(str(self.program.path), problem.step.place, "constants that fit each other", problem.problem)
            raise ContractError(place, remedy="convert again") from problem

    def _given(self, function: Function, value: NamedType, inputs: Arrays) -> Tensor:
        """An input as a tensor of its own memory or the caller's, which is only read."""
        kind, feature = value.type, function.features.get(value.name, Feature(value.name))
        if not isinstance(kind, TensorType) or kind.dtype not in CARRIERS:
            raise UsageError(f"`{function.name}` takes `{value.name}` as {kind}", remedy="only tensors of numbers can be given")
        if value.name not in inputs:
            if not feature.optional or kind.shape is None or None in kind.shape:
                raise UsageError(f"`{function.name}` needs an input `{value.name}`", remedy=f"give an array of {kind}")
            return torch.full([size or 0 for size in kind.shape], feature.default, dtype=CARRIERS[kind.dtype])
        array = np.asarray(inputs[value.name])
        self._fits(function, value.name, kind, feature, array)
        tensor = torch.from_numpy(np.array(array, copy=True)).to(CARRIERS[kind.dtype])
        return rounded(tensor) if self.mode == "fp16" and kind.dtype.mil == "fp16" else tensor

    def _fits(self, function: Function, name: str, kind: TensorType, feature: Feature, array: NDArray[Any]) -> None:
        wanted = np.floating if kind.dtype.is_float else np.bool_ if kind.dtype.mil == "bool" else np.integer
        if not np.issubdtype(array.dtype, wanted):
            raise UsageError(f"`{function.name}` was given {array.dtype} as `{name}`", remedy=f"give an array of {kind}")
        shape = tuple(array.shape)
        ranged = not feature.ranges or (
            len(feature.ranges) == len(shape)
            and all(low <= size and (high is None or size <= high) for size, (low, high) in zip(shape, feature.ranges, strict=True))
        )
        if not kind.admits(shape) or (feature.enumerated and shape not in feature.enumerated) or not ranged:
            allowed = [str(list(sizes)) for sizes in feature.enumerated] or [f"{low} to {high}" for low, high in feature.ranges] or str(kind)
            raise UsageError(f"`{function.name}` was given shape {list(shape)} as `{name}`", remedy=f"it takes {allowed}")
        if feature.image in ("GRAYSCALE", "RGB", "BGR") and array.size and not 0 <= array.min() <= array.max() <= 255:
            found = f"`{function.name}` was given numbers from {array.min():g} to {array.max():g} as image `{name}`"
            raise UsageError(found, remedy=f"give pixels as numbers from 0 to 255, channels in the order {feature.image}")

    def _arrays(self, planned: _Planned, results: tuple[Tensor, ...], shared: Values) -> dict[str, NDArray[Any]]:
        """Results as arrays that share no memory with what stays (`shared`, weights) or with each other."""
        owned = self._weights.places | {tensor.untyped_storage().data_ptr() for tensor in shared.values()}
        arrays = {}
        for (name, wanted), result in zip(planned.returned.items(), results, strict=True):
            place = result.untyped_storage().data_ptr()
            array = (result.clone() if place in owned else result).numpy()
            owned.add(place)
            arrays[name] = array if wanted is None else array.astype(wanted, copy=False)
        for name, named in planned.classes.items():
            arrays[name] = named[arrays[name]]
        return arrays

    def _returned(self, function: Function) -> dict[str, str | None]:
        """By output, the numpy type that it is returned in; None for the one that computing uses."""
        defined = {value.name: value.type for operation in function.block.operations for value in operation.outputs}
        defined.update({value.name: value.type for value in function.inputs})
        return {name: self._numpy(defined[name]) for name in function.block.outputs}

    def _numpy(self, kind: ValueType) -> str | None:
        if not isinstance(kind, TensorType) or (kind.dtype.mil == "fp16" and self.mode != "fp16"):
            return None
        return kind.dtype.numpy


def _zeros(shape: list[int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Zeros that take memory page by page as they are written. numpy's own ask for pages of 2 MB: the first token would take the whole cache."""
    size = math.prod(shape) * dtype.itemsize
    return np.frombuffer(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), dtype).reshape(shape) if size else np.zeros(shape, dtype)


def _state_types(function: Function) -> dict[str, TensorType]:
    return {value.name: value.type.wrapped for value in function.states if isinstance(value.type, StateType)}


def _checked(function: Function, state: State | None) -> dict[str, Tensor]:
    types = _state_types(function)
    if not types:
        return {}
    if state is None or any(state.types.get(name) != kind for name, kind in types.items()):
        found = "none" if state is None else {name: str(kind) for name, kind in state.types.items()}
        raise UsageError(f"`{function.name}` keeps state {sorted(types)} and was given {found}", remedy="make it with `new_state`")
    if not state.complete:
        raise UsageError("the state was left by a call that failed", remedy="make a new one with `new_state` and start over")
    return state.tensors
