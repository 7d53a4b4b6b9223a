"""A package against the student that it was made of.

Here: the same calls on both, the report. Not here: pairing values (match.py), weights (weights.py), watching the student (taps.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from interlock.errors import UsageError
from runtime.mil import Program
from runtime.mil.compare.chain import EMBEDS, IDS, LAST, POSITIONS, Call, plan_calls
from runtime.mil.compare.match import Match, blamed, match
from runtime.mil.compare.report import Difference, Measured, Options, Report
from runtime.mil.compare.taps import Tap, watch
from runtime.mil.compare.values import Value, measured, noises, origins, record, tolerance
from runtime.mil.compare.weights import hold
from runtime.mil.program import StateType
from runtime.student.model import Student


def compare_student(
    package: Program,
    student: Student,
    reference: str,
    options: Options,
    given: dict[str, NDArray[Any]] | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Report:
    """Where `package` first differs from the student. reference: what to call the student. Raises UsageError for a package of other inputs."""
    calls = plan_calls(package, options.function, options.ids, given)
    _comparable(package, calls)
    note("weights")
    held = hold(package, student, tuple(dict.fromkeys(call.function for call in calls)))
    plain, rounded = (record(package, mode, calls, note) for mode in ("fp32", "fp16"))
    taps = watch(held.student, calls, _slots(package, calls), note)
    mine = plain if options.mode == "fp32" else rounded
    noise = noises(plain, rounded)
    found = match(package, mine, noise, taps)
    first = _first(package, mine, noise, found, taps, calls)
    named = _named(package, first, held.differences)
    return Report(
        package=str(package.path),
        reference=reference,
        mode=options.mode,
        calls=tuple(call.label for call in calls),
        compared_values=len(found.tap),
        unmatched_values=len(mine) - len(found.tap),
        first=named,
        measured=first,
        candidates=(),
        differences=held.differences,
        origins=(*origins(package, plain, calls, "fp32"), *origins(package, rounded, calls, "fp16")),
        worst=(),
        lowest_output_db={},
    )


def _comparable(package: Program, calls: Sequence[Call]) -> None:
    for call in calls:
        unknown = set(call.inputs) - {IDS, POSITIONS, LAST, EMBEDS}
        if unknown or not {IDS, EMBEDS} & set(call.inputs):
            problem = f"`{call.function}` takes {sorted(call.inputs)}, which is no form of a student"
            raise UsageError(problem, remedy="compare it with another package")


def _slots(package: Program, calls: Sequence[Call]) -> int | None:
    for call in calls:
        for value in package.functions[call.function].states:
            if isinstance(value.type, StateType) and value.type.wrapped.shape:
                return value.type.wrapped.shape[2]
    return None


def _first(
    package: Program, values: Sequence[Value], noise: Sequence[float], found: Match, taps: Sequence[Tap], calls: Sequence[Call]
) -> Measured | None:
    """The first wrong value beside the student's nearest value that nothing of the package has, if one has its shape."""
    if not found.wrong:
        return None
    at = found.wrong[0]
    name = blamed(package.functions[values[at].function].block.operations, values[at].name)
    value = next(item for item in values if item.call == values[at].call and item.name == name)
    matched = set(found.tap.values())
    same = [i for i, tap in enumerate(taps) if (tap.call, tap.sketch.shape, tap.floats) == (value.call, value.sketch.shape, value.floats)]
    missing = [i for i in same if i not in matched] or same
    if not missing:
        return measured(value, calls[value.call].label, value.sketch, "nothing of this shape", 0.0)
    tap = taps[missing[0]]
    return measured(value, calls[value.call].label, tap.sketch, tap.label, tolerance(tap.sketch, noise[at], value.floats))


def _named(package: Program, first: Measured | None, weights: Sequence[Difference]) -> Difference | Measured | None:
    """The operation that takes a wrong weight, if it comes first; else the first wrong value."""
    if first is None or not weights:
        return first or (weights[0] if weights else None)
    order = {operation.name: at for at, operation in enumerate(package.functions[first.function].block.operations)}
    own = [item for item in weights if item.function == first.function and order[item.value] <= order.get(first.value, len(order))]
    return min(own, key=lambda item: order[item.value]) if own else first
