"""A package against another package.

Here: the same calls on both, values paired by alignment, the operation to name. Not here: pairing (align.py), tolerance (values.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from interlock.errors import UsageError
from runtime.mil import Program
from runtime.mil.compare.align import Alignment, Side, align, differences
from runtime.mil.compare.chain import Call, not_run, plan_calls
from runtime.mil.compare.report import Difference, Measured, Options, Report, lowest, worst
from runtime.mil.compare.values import Value, exceeds, measured, noises, origins, record, tolerance
from runtime.mil.program import Operation

# Differences that the numbers of the run decide about: a weight that is compressed is another constant by intent.
_NO_FAULT = ("storage",)


def compare_packages(
    package: Program,
    reference: Program,
    options: Options,
    given: dict[str, NDArray[Any]] | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Report:
    """Where `package` first differs from `reference`. given: inputs of `options.function`. Raises UsageError if they take other inputs."""
    shared = _comparable(package, reference, options)
    calls = plan_calls(reference, options.function, options.ids, given)
    calls = tuple(call for call in calls if call.function in shared)
    sides = {name: (Side.of(package.functions[name]), Side.of(reference.functions[name])) for name in {call.function for call in calls}}
    found = {name: align(*pair) for name, pair in sides.items()}
    structural = [item for name in dict.fromkeys(call.function for call in calls) for item in differences(*sides[name], found[name])]
    plain, rounded = (record(package, mode, calls, note) for mode in ("fp32", "fp16"))
    expected = record(reference, options.mode, calls, note)
    mine = plain if options.mode == "fp32" else rounded
    pairs = list(_measured(mine, expected, noises(plain, rounded), calls, found))
    wrong = [(item, value) for item, value in pairs if exceeds(item, options.tolerance_db, value.floats)]
    first = wrong[0][0] if wrong else None
    return Report(
        package=str(package.path),
        reference=str(reference.path),
        mode=options.mode,
        calls=tuple(call.label for call in calls),
        not_run=not_run(package, calls),
        compared_values=len(pairs),
        unmatched_values=len(mine) - len(pairs),
        first=_named(first, structural, {name: pair[0] for name, pair in sides.items()}),
        measured=first,
        differences=tuple(structural),
        origins=(*origins(package, plain, calls, "fp32"), *origins(package, rounded, calls, "fp16")),
        worst=worst((item for item, _ in pairs), options.top),
        outputs=lowest(item for item, _ in pairs if item.value in package.functions[item.function].block.outputs),
    )


def _comparable(package: Program, reference: Program, options: Options) -> set[str]:
    """Functions that both have. Raises UsageError where nothing can be compared."""
    shared = set(package.functions) & set(reference.functions)
    if options.function is not None and options.function not in shared:
        raise UsageError(f"both packages need a function `{options.function}`", remedy=f"they share {sorted(shared)}")
    if not shared:
        raise UsageError("the packages share no function", remedy=f"they have {sorted(package.functions)} and {sorted(reference.functions)}")
    for name in sorted(shared):
        takes = [{value.name: value.type for value in program.functions[name].inputs} for program in (package, reference)]
        if takes[0] != takes[1]:
            raise UsageError(f"function `{name}` takes other inputs in the two packages", remedy="compare packages of one interface")
    return shared


def _measured(
    mine: Sequence[Value], expected: Sequence[Value], noise: Sequence[float], calls: Sequence[Call], found: dict[str, Alignment]
) -> list[tuple[Measured, Value]]:
    """Every value of the package that has a counterpart of its shape, in order. A name that a loop gives again counts from the first round."""
    theirs: dict[tuple[int, str], Value] = {}
    for value in expected:
        theirs.setdefault((value.call, value.name), value)
    pairs, done = [], set()
    for value, moved in zip(mine, noise, strict=True):
        other = theirs.get((value.call, found[value.function].names.get(value.name, "")))
        if other is None or other.sketch.shape != value.sketch.shape or (value.call, value.name) in done:
            continue
        done.add((value.call, value.name))
        allowed = tolerance(other.sketch, moved, value.floats)
        pairs.append((measured(value, calls[value.call].label, other.sketch, other.name, allowed), value))
    return pairs


def _named(first: Measured | None, structural: Sequence[Difference], sides: dict[str, Side]) -> Difference | Measured | None:
    """The nearest different operation that feeds the first value that diverges, else that value's own; without one the first difference."""
    faults = [item for item in structural if item.kind not in _NO_FAULT]
    if first is None:
        return faults[0] if faults else None
    own = [item for item in faults if item.function == first.function]
    upstream = _upstream(sides[first.function].operations, first.value)
    for item in own:
        if item.value in upstream or item.kind in ("missing", "outputs"):
            return item
    others = [item for item in faults if item.function != first.function]
    return others[0] if others and first.operation in ("read_state", "state") else first


def _upstream(operations: Sequence[Operation], value: str) -> set[str]:
    """What a value is computed from, through states as well: its own name, results, and the names of operations without a result."""
    wanted, found = {value}, {value}
    for operation in reversed(operations):
        takes = {str(item) for bindings in operation.inputs.values() for item in bindings if isinstance(item, str)}
        if any(output.name in wanted for output in operation.outputs) or (operation.type == "write_state" and takes & wanted):
            wanted |= takes
            found.add(operation.name)
    return found | wanted
