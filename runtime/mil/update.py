"""Writing a slice into a state: the axes that are cut are known before a run, often all but one of their places too.

Here: the short way, for slices by 1 inside of the state. Not here: when it may be in place (inplace.py), what any other slice means (ops/slices.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from runtime.mil.lower import Types, sizes
from runtime.mil.ops.slices import Selection
from runtime.mil.plan import Step

Registers = list[Any]


@dataclass(frozen=True, slots=True)
class Cut:
    """One axis of a state: places from `begin` to `end`, each a number or, below zero, the register -1 - n of one."""

    axis: int
    begin: int
    end: int


def cuts(step: Step, scope: Mapping[str, int], types: Types) -> tuple[Cut, ...] | None:
    """The axes of which not all is written. None where a stride, a squeezed axis or a list that is made in the run is part of it."""
    shape = sizes(step, "x", types)
    options = [step.fixed.get(name, ()) for name in ("stride", "squeeze_mask")]
    if shape is None or any(source.parameter not in ("x", "update", "begin", "end") for source in step.sources):
        return None
    if set(options[0]) - {1} or any(options[1]):
        return None
    begin, end = (_places(step, name, scope) for name in ("begin", "end"))
    if begin is None or end is None or not len(begin) == len(end) == len(shape):
        return None
    open_begin, open_end = (step.fixed.get(name, (0,) * len(shape)) for name in ("begin_mask", "end_mask"))
    found = []
    for axis, size in enumerate(shape):
        cut = Cut(axis, 0 if open_begin[axis] else begin[axis], size if open_end[axis] else end[axis])
        if (cut.begin, cut.end) != (0, size):
            found.append(cut)
    return tuple(found)


def writer(found: tuple[Cut, ...]) -> Callable[[Registers, Tensor, Tensor], int]:
    """A function of (registers, state, update) that writes and returns the end of the slots that it wrote (see `end_of_slots`); -1 where the
    slice is not what is written here."""

    def write(registers: Registers, state: Tensor, update: Tensor) -> int:
        target, slots = state, state.shape[-2] if state.dim() > 1 else 0
        for cut in found:
            begin = cut.begin if cut.begin >= 0 else int(registers[-1 - cut.begin])
            end = cut.end if cut.end >= 0 else int(registers[-1 - cut.end])
            if not 0 <= begin <= end <= state.shape[cut.axis]:
                return -1
            target = target.narrow(cut.axis, begin, end - begin)
            if cut.axis == state.dim() - 2:
                slots = end
        if target.shape != update.shape:
            return -1
        target.copy_(update)
        return slots

    return write


def end_of_slots(state: Tensor, places: Selection) -> int:
    """Of the second axis from the end, the place behind the last one written; 0 for a state that has no such axis."""
    if state.dim() < 2:
        return 0
    slots, size = places[-2], state.shape[-2]
    return slots % size + 1 if isinstance(slots, int) else max(slots.indices(size)[:2])


def _places(step: Step, parameter: str, scope: Mapping[str, int]) -> tuple[int, ...] | None:
    if parameter in step.fixed:
        fixed: tuple[int, ...] = step.fixed[parameter]
        return fixed if min(fixed, default=0) >= 0 else None
    value = next(source.value for source in step.sources if source.parameter == parameter)
    if not isinstance(value, tuple):
        return None
    found = tuple(-1 - scope[part] if isinstance(part, str) else int(part) for part in value)
    return found if all(place >= 0 for place, part in zip(found, value, strict=True) if not isinstance(part, str)) else None
