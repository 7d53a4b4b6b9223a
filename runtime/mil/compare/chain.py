"""Which functions are called on what, one after another, so that every value that matters is computed from something.

Here: inputs and order of calls. Not here: running them (values.py), text to tokens (pipeline/verbs).
A function that reads states is called after the functions that fill them: every function of several tokens on a fresh state, each followed by
steps of one token, so that a stale cache, a wrong layer or a position off by one shows in what is computed next. Calls of more than LONG tokens are
made only where their function is asked for, because one of 4096 tokens takes minutes; of a package that has nothing shorter, the shortest is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interlock.errors import UsageError
from runtime.mil.program import Feature, Function, NamedType, Program, StateType, TensorType

STEPS = 2
LONG = 512
# What a student's functions take (pipeline/coreml/functions.py); other inputs are filled by seed.
IDS, POSITIONS, LAST, EMBEDS = "input_ids", "position_ids", "last_index", "inputs_embeds"
_SEED = 20
# More than a head is wide: in a cache of another layout nothing else is left out for slots.
_BEYOND = 256


@dataclass(frozen=True)
class Call:
    """label: for people. fresh: on an empty state, else on what the call before left."""

    function: str
    label: str
    inputs: dict[str, NDArray[Any]] = field(repr=False)
    fresh: bool


def plan_calls(program: Program, function: str | None, ids: Sequence[int] | None, given: dict[str, NDArray[Any]] | None = None) -> tuple[Call, ...]:
    """The calls of a comparison, in order. given: inputs of `function` that replace those made here. Raises UsageError for an unknown function."""
    if function is not None and function not in program.functions:
        raise UsageError(f"the package has no function `{function}`", remedy=f"its functions are {', '.join(program.functions)}")
    tokens = _Tokens(ids)
    ranked = sorted(program.functions.values(), key=lambda item: (_length(item), item.name))
    steps = [item for item in ranked if item.states and _length(item) == 1]
    calls: list[Call] = []
    for item in ranked:
        first = item in ranked[len(steps) : len(steps) + 1]
        if (item in steps and len(steps) < len(ranked)) or (function is None and _length(item) > LONG and not first):
            continue
        if function in (None, item.name) or (first and function in {step.name for step in steps}):
            shapes = _shapes(item, LONG if function is None else None)
            calls += _chain(item, shapes, [step for step in steps if function in (None, item.name, step.name) and step is not item], tokens)
    if function is not None:
        last = max(index for index, call in enumerate(calls) if call.function == function)
        calls = calls[: last + 1]
    return tuple(Call(c.function, c.label, {**c.inputs, **(given or {})} if c.function == function else c.inputs, c.fresh) for c in calls)


def not_run(program: Program, calls: Sequence[Call]) -> tuple[str, ...]:
    """Functions that no call is made of."""
    made = {call.function for call in calls}
    return tuple(name for name in program.functions if name not in made)


def reach(calls: Sequence[Call]) -> int | None:
    """How many slots of a cache the calls may write, with some beyond for a wrong place; None where no call has positions."""
    ends = [int(call.inputs[POSITIONS].max()) + 1 for call in calls if POSITIONS in call.inputs]
    return max(ends) + _BEYOND if ends else None


def _shapes(function: Function, most: int | None) -> list[tuple[int, ...] | None]:
    """The sizes that a function lists, of at most so many tokens or the least; None: it has only one."""
    listed: list[tuple[int, ...] | None] = [None]
    for value in function.inputs:
        if sizes := function.features.get(value.name, Feature(value.name)).enumerated:
            least = min(sizes)
            listed = [shape for shape in sizes if value.name != IDS or not most or shape[1] <= most or shape == least]
    return listed


def _chain(first: Function, shapes: Sequence[tuple[int, ...] | None], steps: list[Function], tokens: _Tokens) -> list[Call]:
    """One function on an empty state at each of these sizes, then steps on what it left."""
    calls = []
    for shape in shapes:
        length = shape[1] if shape and len(shape) > 1 else _length(first)
        calls.append(Call(first.name, f"{first.name} on {length} tokens", _inputs(first, 0, length, shape, tokens), True))
    if first.states and not steps:
        calls += [Call(first.name, f"{first.name}, call {at + 1}", _inputs(first, at, length, None, tokens), False) for at in range(1, 1 + STEPS)]
    position = length
    slots = min((size for value in first.states if (size := _slots(value))), default=length + STEPS)
    while steps and position < min(slots, length + STEPS):
        for step in steps[: slots - position]:
            calls.append(Call(step.name, f"{step.name} at position {position}", _inputs(step, position, 1, None, tokens), False))
            position += 1
    return calls


def _slots(value: NamedType) -> int:
    """How many positions a cache [L, H_kv, C, D] holds; 0 for another kind of state."""
    shape = value.type.wrapped.shape if isinstance(value.type, StateType) else None
    return (shape[2] or 0) if shape is not None and len(shape) == 4 else 0


def _inputs(function: Function, start: int, length: int, shape: tuple[int, ...] | None, tokens: _Tokens) -> dict[str, NDArray[Any]]:
    made = {}
    for value in function.inputs:
        assert isinstance(value.type, TensorType)
        ranges = function.features.get(value.name, Feature(value.name)).ranges
        sizes = shape or (tuple(low for low, _ in ranges) if ranges else tuple(size or 1 for size in value.type.shape or ()))
        if value.name == IDS:
            made[value.name] = tokens.at(start, sizes)
        elif value.name == POSITIONS:
            made[value.name] = np.arange(start, start + sizes[0], dtype=np.int32)
        elif value.name == LAST:
            # not the last: an index that is off by one, or ignored, then reads another position
            made[value.name] = np.array([max(0, length - 2)], np.int32)
        else:
            made[value.name] = tokens.other(value, start, sizes)
    return made


@dataclass(frozen=True)
class _Tokens:
    given: Sequence[int] | None

    def at(self, start: int, shape: tuple[int, ...]) -> NDArray[Any]:
        count = int(np.prod(shape))
        if self.given:
            return np.array([self.given[(start + at) % len(self.given)] for at in range(count)], np.int32).reshape(shape)
        # few distinct small ids: any vocabulary has them
        return np.random.default_rng([_SEED, start]).integers(0, 32, shape).astype(np.int32)

    def other(self, value: NamedType, start: int, shape: tuple[int, ...]) -> NDArray[Any]:
        """Values by name and place: the same in every process."""
        assert isinstance(value.type, TensorType)
        source = np.random.default_rng([_SEED, start, *value.name.encode()])
        if value.type.dtype.is_float:
            return source.standard_normal(shape).astype(value.type.dtype.numpy or np.float32)
        return source.integers(0, 2, shape).astype(value.type.dtype.numpy or np.int32)


def _length(function: Function) -> int:
    """Tokens per call: the second size of `input_ids`, 1 for embeddings of one token, else what no state depends on."""
    for value in function.inputs:
        if value.name in (IDS, EMBEDS) and isinstance(value.type, TensorType) and value.type.shape and len(value.type.shape) > 1:
            return value.type.shape[1] or 2
    return 2
