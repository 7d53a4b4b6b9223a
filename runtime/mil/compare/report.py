"""What a comparison found, as records that a table or JSON can be made of.

Here: fields. Not here: finding them (packages.py, student.py), showing them (pipeline/verbs).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
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
    """One value on both sides. reference_name: what the reference calls it. psnr_db: 20 log10(max|reference| / rmse), inf when equal, NaN when
    not finite; tolerance: the largest difference that rounding explains."""

    function: str
    call: str
    value: str
    operation: str
    reference_name: str
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
    where only its form differs or the reference has no counterpart. candidates: what else may be the cause, where several are equally near."""

    package: str
    reference: str
    mode: Mode
    calls: tuple[str, ...]
    compared_values: int
    unmatched_values: int
    first: Difference | Measured | None
    measured: Measured | None
    candidates: tuple[str, ...]
    differences: tuple[Difference, ...]
    origins: tuple[Origin, ...]
    worst: tuple[Measured, ...]
    lowest_output_db: dict[str, float] = field(default_factory=dict)

    @property
    def diverges(self) -> bool:
        return self.measured is not None or any(item.kind == "weight" for item in self.differences)


def psnr(peak: float, rms: float) -> float:
    """20 log10(peak / rms) in dB; peak: of the reference."""
    if math.isinf(rms) or math.isnan(rms):
        return math.nan
    if rms == 0.0:
        return math.inf
    return 20 * math.log10(peak / rms) if peak else -math.inf
