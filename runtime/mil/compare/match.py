"""Values of a package paired with values of the student, by their numbers and their order, without names.

Here: pairing, and the first value that is wrong. Not here: the values (values.py, taps.py), weights (weights.py).
A value of the package is *good* if it has the numbers of a value of the student. Operations that compute something claim the value that they found,
so that a second operation cannot pass for the first (a residual that is dropped repeats the values of the norm before). Some good values have
no counterpart, because the converter splits or joins operations: a value is excused if something good is computed from it. What is left is wrong,
and the first of it, in the order of the program, is where to look: everything that it is computed from is good.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from runtime.mil import Program
from runtime.mil.compare.sketch import distance
from runtime.mil.compare.taps import CACHES, UNSCALED, Tap
from runtime.mil.compare.values import Value, producers, sources, tolerance
from runtime.mil.program import Operation


@dataclass(frozen=True)
class Match:
    """tap: by position of a value, the position of its counterpart; wrong: positions of values that are neither good nor excused, in order."""

    tap: dict[int, int]
    wrong: tuple[int, ...]


def match(program: Program, values: Sequence[Value], noise: Sequence[float], taps: Sequence[Tap], share: float = 1.0) -> Match:
    """Pair the values of a run with those of the student over the same calls. share: how much of its tolerance a value may use."""
    return _Matcher(program, taps, share).match(values, noise)


class _Matcher:
    def __init__(self, program: Program, taps: Sequence[Tap], share: float) -> None:
        self._program, self._taps, self._share = program, taps, share
        self._shelves: dict[tuple[object, ...], list[int]] = defaultdict(list)
        for at, tap in enumerate(taps):
            self._shelves[tap.call, tap.floats, tap.sketch.shape].append(at)
        self._claimed: set[int] = set()
        # by call and state: the student's cache that it holds, and how far it has been written
        self._held: dict[tuple[int, str], int] = {}

    def match(self, values: Sequence[Value], noise: Sequence[float]) -> Match:
        found: dict[int, int] = {}
        makers = {name: producers(function) for name, function in self._program.functions.items()}
        known: dict[tuple[int, str], bool] = {}
        for at, value in enumerate(values):
            maker = makers[value.function].get(value.name)
            key = (value.call, value.name)
            known[key] = not value.floats
            # what only passes on a value that is not good cannot make it good
            if _moves(value) and not all(known.get((value.call, name), True) for name in sources(maker)):
                continue
            tap = self._counterpart(value, noise[at], self._state(maker, makers[value.function]) if maker else value.name)
            if tap is not None:
                found[at] = tap
                known[key] = True
        return Match(found, _wrong(self._program, values, found))

    def _counterpart(self, value: Value, noise: float, state: str) -> int | None:
        free = _moves(value)
        best: tuple[float, int] | None = None
        for at in self._shelves.get((value.call, value.floats, value.sketch.shape), ()):
            tap = self._taps[at]
            if (not free and self._root(at) in self._claimed) or (state and not self._is_current(value, state, at)):
                continue
            # whoever scaled the query has no scores that are not scaled
            if tap.operator == UNSCALED and at - 1 in self._claimed:
                continue
            allowed = self._share * tolerance(tap.sketch, noise, value.floats)
            if abs(tap.sketch.low - value.sketch.low) > allowed or abs(tap.sketch.high - value.sketch.high) > allowed:
                continue
            far = distance(value.sketch, tap.sketch)[0]
            if far <= allowed and (best is None or far < best[0] / 2):
                best = (far, at)
        if best is None:
            return None
        if not free:
            self._claimed.add(self._root(best[1]))
        if state and value.operation == "slice_update":
            self._held[value.call, state] = best[1]
        return best[1]

    def _root(self, at: int) -> int:
        """The value that another is only a view of."""
        while self._taps[at].moves and self._taps[at].parents:
            at = self._taps[at].parents[0]
        return at

    def _is_current(self, value: Value, state: str, at: int) -> bool:
        """Whether the student's value is what a state of the package must hold by now: what the last update made of it, and of the same cache."""
        before = self._held.get((value.call, state))
        if before is None or self._taps[at].operator not in CACHES:
            return True
        return at >= before and self._taps[at].operator == self._taps[before].operator

    @staticmethod
    def _state(maker: Operation, makers: dict[str, Operation]) -> str:
        """The state that a value is read from or will be written to."""
        while maker.type == "slice_update":
            source = makers.get(str(maker.inputs["x"][0]))
            if source is None:
                return ""
            maker = source
        return str(maker.inputs["input"][0]) if maker.type == "read_state" else ""


def _moves(value: Value) -> bool:
    """Whether an operation only passes numbers on: such a value may have the numbers of any other."""
    return value.operation in _PASSES or value.operation in ("read_state", "state", "split")


def _wrong(program: Program, values: Sequence[Value], found: dict[int, int]) -> tuple[int, ...]:
    """Values with nothing good in what is computed from them, themselves included."""
    wrong: list[int] = []
    by_call: dict[int, list[int]] = defaultdict(list)
    for at, value in enumerate(values):
        by_call[value.call].append(at)
    for places in by_call.values():
        operations = program.functions[values[places[0]].function].block.operations
        good = {values[at].name for at in places if at in found}
        _excuse(operations, good)
        wrong += [at for at in places if values[at].name not in good]
    return tuple(wrong)


def _excuse(operations: Sequence[Operation], good: set[str]) -> None:
    """Add what good values are computed from, until nothing is added."""
    for operation in reversed(operations):
        # sizes say nothing about numbers
        if operation.type != "shape" and any(output.name in good for output in operation.outputs):
            good.update(sources(operation))


def blamed(operations: Sequence[Operation], value: str, wrong: Collection[str]) -> str:
    """Whose fault a wrong value is that only passes on what a state held: the read of it, or whoever still uses an older read. wrong: names."""
    makers = {output.name: operation for operation in operations for output in operation.outputs}
    operation, taker = makers.get(value), value
    while operation is not None and operation.type in _PASSES:
        taker, source = operation.name, str(operation.inputs["x"][0])
        operation = makers.get(source)
        if operation is not None and operation.type != "read_state" and source not in wrong:
            return value
    if operation is None or operation.type != "read_state" or taker == operation.name:
        return value
    reads = [item for item in operations[: operations.index(makers[taker])] if item.type == "read_state" and item.inputs == operation.inputs]
    return operation.name if reads[-1] is operation else taker


_PASSES = frozenset({"slice_by_index", "expand_dims", "tile", "reshape", "transpose", "squeeze", "cast"})
