"""A package against the student that it was made of.

Here: the same calls on both, the report. Not here: pairing values (match.py), weights (weights.py), watching the student (taps.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from numpy.typing import NDArray

from interlock.errors import UsageError
from runtime.mil import Program
from runtime.mil.compare.chain import EMBEDS, IDS, LAST, POSITIONS, Call, not_run, plan_calls
from runtime.mil.compare.match import Match, blamed, match
from runtime.mil.compare.report import Difference, Measured, Options, Report, lowest, worst
from runtime.mil.compare.taps import Tap, watch
from runtime.mil.compare.values import Value, measured, noises, origins, record, tolerance
from runtime.mil.compare.weights import hold
from runtime.mil.program import StateType
from runtime.student.model import Student

# How much of its tolerance a value may use once another has used all of its own: 40 times and twice what values of sound packages use (values.py).
SHARE: dict[str, float] = {"fp32": 1 / 32, "fp16": 1 / 3}


def compare_student(
    package: Program,
    student: Student,
    reference: str,
    options: Options,
    given: dict[str, NDArray[Any]] | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Report:
    """Where `package` first differs from the student. reference: what to call the student. Raises UsageError for a package of other inputs, and
    for a threshold in dB: values without names are paired by their distance, so the distance of pairs shows nothing."""
    if options.tolerance_db is not None:
        raise UsageError("a threshold in dB is for a package as reference", remedy="leave it out: against a student the error model decides")
    calls = plan_calls(package, options.function, options.ids, given)
    _comparable(package, calls)
    note("weights")
    held = hold(package, student, tuple(dict.fromkeys(call.function for call in calls)))
    plain, rounded = (record(package, mode, calls, note) for mode in ("fp32", "fp16"))
    mine = plain if options.mode == "fp32" else rounded
    taps = watch(held.student, calls, _slots(package, calls), {(value.call, value.sketch.shape) for value in mine}, note)
    noise = noises(plain, rounded)
    found = match(package, mine, noise, taps)
    if found.wrong:
        # something is wrong: its cause may lie where the difference is still small
        found = match(package, mine, noise, taps, SHARE[options.mode])
    first = _first(package, mine, noise, found, taps, calls)
    pairs = (measured(mine[at], calls[mine[at].call].label, taps[tap].sketch, taps[tap].label, 0.0) for at, tap in found.tap.items())
    named = _named(package, first, held.differences)
    return Report(
        package=str(package.path),
        reference=reference,
        mode=options.mode,
        calls=tuple(call.label for call in calls),
        not_run=not_run(package, calls),
        compared_values=len(found.tap),
        unmatched_values=len(mine) - len(found.tap),
        first=named,
        measured=first,
        differences=held.differences,
        origins=(*origins(package, plain, calls, "fp32"), *origins(package, rounded, calls, "fp16")),
        worst=worst(pairs, options.top),
        outputs=lowest(_outputs(package, mine, taps, calls)),
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


def _outputs(package: Program, values: Sequence[Value], taps: Sequence[Tap], calls: Sequence[Call]) -> Iterator[Measured]:
    """Every output beside what the student says there, whatever it was paired with."""
    said = {(tap.call, tap.output): tap for tap in taps if tap.output}
    for value in values:
        tap = said.get((value.call, value.name))
        if tap is not None and value.name in package.functions[value.function].block.outputs and tap.sketch.shape == value.sketch.shape:
            yield measured(value, calls[value.call].label, tap.sketch, tap.label, 0.0)


def _first(
    package: Program, values: Sequence[Value], noise: Sequence[float], found: Match, taps: Sequence[Tap], calls: Sequence[Call]
) -> Measured | None:
    """The first wrong value beside the student's nearest value that nothing of the package has, if one has its shape."""
    if not found.wrong:
        return None
    at = found.wrong[0]
    beside = {values[i].name for i in found.wrong if values[i].call == values[at].call}
    name = blamed(package.functions[values[at].function].block.operations, values[at].name, beside)
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
