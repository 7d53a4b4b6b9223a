"""What a comparison found, as records that a table or JSON can be made of.

Here: fields. Not here: finding them (packages.py, student.py), showing them (pipeline/verbs).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from runtime.mil.execute import Mode


@dataclass(frozen=True)
class Options:
    """function: only this one (and before a step of decoding the shortest prefill that fills its cache); mode: the rounding under which both
    are compared; tolerance_db: a value diverges below this PSNR, None for the error model; ids: tokens to run on, repeated as needed, None:
    by seed; top: how many of the worst values to list."""

    function: str | None = None
    mode: Mode = "fp32"
    tolerance_db: float | None = None
    ids: tuple[int, ...] | None = None
    top: int = 10


@dataclass(frozen=True)
class Measured:
    """One value on both sides. reference_name: what the reference calls it. max_abs: the largest difference; where not `exact` it is that of sums of
    elements under random signs, as is tolerance (sketch.py). psnr_db: 20 log10(max|reference| / rmse), inf when equal, NaN when not finite;
    tolerance: the largest difference that rounding explains."""

    function: str
    call: str
    value: str
    operation: str
    reference_name: str
    exact: bool
    max_abs: float
    tolerance: float
    psnr_db: float
    range: tuple[float, float]
    reference_range: tuple[float, float]


@dataclass(frozen=True)
class Difference:
    """Something about the operation `value` that is not as in the reference, seen without running it.

    kind: `storage` says the same numbers in another form (compressed), which is no fault by itself. severity: how far, where numbers differ.
    """

    function: str
    value: str
    operation: str
    kind: Literal["operation", "constant", "wiring", "type", "missing", "added", "outputs", "storage", "weight"]
    found: str
    expected: str


@dataclass(frozen=True)
class Origin:
    """The first operation whose result is not finite though its inputs are."""

    function: str
    call: str
    value: str
    operation: str
    kind: Literal["overflow", "nan"]
    mode: Mode
    input_peak: float


@dataclass(frozen=True)
class Report:
    """first: the operation to look at: where numbers first diverge, or the different operation that feeds them. measured: its numbers, None
    where only its form differs. not_run: functions that no call was made of. worst: the values with the lowest PSNR, first the lowest, that have a
    counterpart and differ; outputs: every output of every function in the call where its PSNR is lowest."""

    package: str
    reference: str
    mode: Mode
    calls: tuple[str, ...]
    not_run: tuple[str, ...]
    compared_values: int
    unmatched_values: int
    first: Difference | Measured | None
    measured: Measured | None
    differences: tuple[Difference, ...]
    origins: tuple[Origin, ...]
    worst: tuple[Measured, ...]
    outputs: tuple[Measured, ...]

    @property
    def diverges(self) -> bool:
        return self.measured is not None or any(item.kind == "weight" for item in self.differences)


def worst(compared: Iterable[Measured], top: int) -> tuple[Measured, ...]:
    """What differs most."""
    return tuple(sorted((item for item in compared if item.psnr_db != math.inf), key=_rank)[:top])


def lowest(outputs: Iterable[Measured]) -> tuple[Measured, ...]:
    """Of each output of each function that one of several calls where it differs most."""
    found: dict[tuple[str, str], Measured] = {}
    for item in outputs:
        key = (item.function, item.value)
        found[key] = min(found.get(key, item), item, key=_rank)
    return tuple(found.values())


def _rank(item: Measured) -> float:
    """What is finite on one side alone comes first."""
    return -math.inf if math.isnan(item.psnr_db) else item.psnr_db


def psnr(peak: float, rms: float) -> float:
    """20 log10(peak / rms) in dB; peak: of the reference."""
    if math.isinf(rms) or math.isnan(rms):
        return math.nan
    if rms == 0.0:
        return math.inf
    return 20 * math.log10(peak / rms) if peak else -math.inf
