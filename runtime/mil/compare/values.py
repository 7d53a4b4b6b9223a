"""The values of a run, and how far one may be from its counterpart.

Here: recording, tolerance, the origin of what is not finite. Not here: which value is whose counterpart (align.py, match.py).

Error model. Two correct executions of one graph differ by rounding only: of sums in another order, of values and constants stored as fp16. How far
that moves a given value, by then amplified by everything in between, is measured and not assumed: it is the difference between the package's own
runs with and without rounding (modes `fp16` and `fp32`) at that value. A counterpart may be NOISE times as far. Where this difference happens to be
small, a value may still be FLOOR of its peak away: four roundings of a constant to fp16 (2^-11 each). Integers and booleans must agree exactly.
A faulty operation must not excuse itself by a noise of its own, so noise counts up to CEILING of the peak.

The three were chosen before they were measured, and are wide. Of its tolerance, no value of a sound package used more than this against its student
(greatest of all values and calls): toys of tests/fakes/fault_bases.py on five texts, mode `fp32` 0.0003, mode `fp16` 0.165 (one noise of the NOISE
that are allowed: the student rounds nothing); SmolLM2-135M, `prefill_512` and two steps, mode `fp32` 0.0007 of 5993 values. None was a false alarm.
So a fault that moves everything by less than its rounding noise passes as equal here; it is seen as a difference of the operation or its weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from runtime.mil import Program, Runner
from runtime.mil.compare.chain import Call, reach
from runtime.mil.compare.report import Measured, Origin, psnr
from runtime.mil.compare.sketch import Sketch, distance, sketched
from runtime.mil.execute import Mode
from runtime.mil.program import Function, Operation

NOISE, FLOOR, CEILING = 6.0, 2.0**-9, 2.0**-5


@dataclass(frozen=True, slots=True)
class Value:
    """A result of an operation in one call. floats: not an integer or boolean."""

    call: int
    function: str
    name: str
    operation: str
    floats: bool
    sketch: Sketch


def record(program: Program, mode: Mode, calls: Sequence[Call], note: Callable[[str], None]) -> list[Value]:
    """Every value of every call, in order; states as they are left, under their own names, at the end of a call. Of a cache and of every value of
    its shape the slots that the calls reach."""
    runner, state, found, slots = Runner(program, mode), None, list[Value](), reach(calls)
    for index, call in enumerate(calls):
        note(f"{program.path.name} {mode}: {call.label}")
        function = program.functions[call.function]
        kinds = {output.name: operation.type for operation in function.operations() for output in operation.outputs}
        if function.states and (call.fresh or state is None):
            state = runner.new_state(call.function)
        caches = {tuple(tensor.shape) for tensor in state.tensors.values() if tensor.dim() == 4} if state is not None else set()

        def seen(
            place: str, name: str, value: Tensor, call: tuple[int, str] = (index, call.function), kinds: dict[str, str] = kinds,
            caches: set[tuple[int, ...]] = caches,
        ) -> None:  # fmt: skip
            kept = value[:, :, :slots] if tuple(value.shape) in caches else value
            found.append(Value(*call, name, kinds.get(name, place), value.is_floating_point(), sketched(kept)))

        runner.run(call.function, call.inputs, state if function.states else None, seen)
        if state is not None:
            for value in function.states:
                seen("state", value.name, state.tensors[value.name])
    return found


def noises(plain: Sequence[Value], rounded: Sequence[Value]) -> list[float]:
    """For each value of a run without rounding, how far rounding moves it."""
    found = []
    for one, other in zip(plain, rounded, strict=True):
        largest = distance(one.sketch, other.sketch)[0] if one.sketch.shape == other.sketch.shape else 0.0
        found.append(min(largest, CEILING * one.sketch.scale))
    return found


def tolerance(reference: Sketch, noise: float, floats: bool) -> float:
    """The largest difference, as `distance` gives it, that rounding explains."""
    return NOISE * noise + FLOOR * reference.scale if floats else 0.0


def measured(value: Value, call: str, reference: Sketch, reference_name: str, allowed: float) -> Measured:
    largest, rms = distance(value.sketch, reference)
    return Measured(
        value.function,
        call,
        value.name,
        value.operation,
        reference_name,
        value.sketch.exact,
        largest,
        allowed,
        psnr(reference.peak, rms),
        (value.sketch.low, value.sketch.high),
        (reference.low, reference.high),
    )


def exceeds(found: Measured, tolerance_db: float | None, floats: bool) -> bool:
    """Whether no rounding explains the difference; with a threshold in dB, whether it is below that."""
    if tolerance_db is None or not floats:
        return found.max_abs > found.tolerance
    return math.isnan(found.psnr_db) or found.psnr_db < tolerance_db


def origins(program: Program, values: Sequence[Value], calls: Sequence[Call], mode: Mode) -> tuple[Origin, ...]:
    """Where infinities and NaN first come from: results that are not finite while what they are computed from is. One of each kind."""
    found: dict[str, Origin] = {}
    call = -1
    operations: dict[str, Operation] = {}
    seen: dict[str, Sketch] = {}
    for value in values:
        if value.call != call:
            call, seen = value.call, {}
            operations = producers(program.functions[value.function])
        seen[value.name] = value.sketch
        if value.sketch.finite or value.operation == "state":
            continue
        inputs = [seen[name] for name in sources(operations.get(value.name)) if name in seen]
        if all(item.finite for item in inputs) and not value.operation.endswith("_state"):
            kind = "nan" if value.sketch.nans else "overflow"
            peak = max((item.peak for item in inputs), default=0.0)
            found.setdefault(kind, Origin(value.function, calls[call].label, value.name, value.operation, kind, mode, peak))  # type: ignore[arg-type]
    return tuple(found.values())


def producers(function: Function) -> dict[str, Operation]:
    """By value, the operation that makes it."""
    return {output.name: operation for operation in function.operations() for output in operation.outputs}


def sources(operation: Operation | None) -> list[str]:
    """The names that an operation takes."""
    if operation is None:
        return []
    return [binding for bindings in operation.inputs.values() for binding in bindings if isinstance(binding, str)]
