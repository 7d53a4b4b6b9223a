"""Figures of a page as geometry: rows of marks along one axis, and a scatter of two.

Here: scales, ticks, positions. Not here: SVG (templates/figures.html.j2), which figures a page has (page.py).
Coordinates are units of a viewBox 360 wide, which a telephone shows at its own width: a text of 10 units is readable there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from interlock.contracts.export import ShapeValidation
from interlock.contracts.package import Evidence, FrontierPoint, Gate
from interlock.voice import human

WIDTH = 360.0
LEFT, RIGHT = 8.0, 352.0
ROW, TOP, BOTTOM = 30.0, 26.0, 30.0
# Contracts cap PSNR there: the values are equal.
EQUAL_DB = 200.0

Mark = Literal["circle", "diamond", "square", "triangle", "wedge", "bar"]
MARKS: tuple[Mark, ...] = ("circle", "diamond", "square", "triangle", "wedge", "bar")


@dataclass(frozen=True)
class Point:
    """x in units; series: index of its mark and colour; label: what a pointer shows; ok: on the right side of its limit."""

    x: float
    series: int
    label: str
    ok: bool = True
    hollow: bool = False


@dataclass(frozen=True)
class Row:
    """y of its line; span: from and to x, where two points belong together."""

    label: str
    y: float
    points: tuple[Point, ...]
    spans: tuple[tuple[float, float, int], ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Limit:
    x: float
    label: str
    dashed: bool = False


@dataclass(frozen=True)
class Strip:
    """Rows of marks along one axis. refused: from and to x of the range that the limit refuses."""

    title: str
    description: str
    height: float
    ticks: tuple[tuple[float, str], ...]
    limits: tuple[Limit, ...]
    refused: tuple[float, float]
    rows: tuple[Row, ...]
    series: tuple[tuple[str, Mark], ...]

    @property
    def shown(self) -> tuple[int, ...]:
        """The series that have a mark."""
        return tuple(sorted({point.series for row in self.rows for point in row.points}))

    @property
    def missed(self) -> bool:
        """Whether a mark is on the wrong side of its limit."""
        return not all(point.ok for row in self.rows for point in row.points)


@dataclass(frozen=True)
class Scatter:
    """points: x, y, label, whether it was chosen, whether its divergence was measured (else predicted)."""

    title: str
    description: str
    height: float
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    path: str
    points: tuple[tuple[float, float, str, bool, bool], ...]


@dataclass(frozen=True)
class _Scale:
    """low and high of the axis; log: by powers of ten."""

    low: float
    high: float
    log: bool = False

    def x(self, value: float) -> float:
        low, high, at = (math.log10(max(v, 1e-300)) if self.log else v for v in (self.low, self.high, value))
        share = (min(max(at, low), high) - low) / (high - low)
        return round(LEFT + (RIGHT - LEFT) * share, 2)


@dataclass(frozen=True)
class _Decibels:
    """An axis of decibels. low, high: its ends, where equal values stand beyond high; needed: the threshold."""

    low: int
    high: int
    needed: float

    @staticmethod
    def over(figures: Sequence[float | None], needed: float) -> _Decibels:
        finite = [db for db in figures if db is not None and db < EQUAL_DB]
        return _Decibels(math.floor((min([*finite, needed]) - 4) / 10) * 10, math.ceil((max([*finite, needed]) + 4) / 10) * 10, needed)

    @property
    def scale(self) -> _Scale:
        return _Scale(self.low, self.high + 10)

    def point(self, db: float, series: int, name: str) -> Point:
        equal = db >= EQUAL_DB
        return Point(self.scale.x(self.high + 10 if equal else db), series, f"{name}: {'equal' if equal else f'{db:.1f} dB'}", db >= self.needed)

    def strip(self, title: str, told: str, rows: Sequence[Row], series: tuple[tuple[str, Mark], ...]) -> Strip:
        step = 10 if self.high - self.low <= 80 else 20
        ticks = [(self.scale.x(db), f"{db}") for db in range(self.low, self.high + 1, step)] + [(self.scale.x(self.high + 10), "equal")]
        limit = Limit(self.scale.x(self.needed), f"{self.needed:g} dB needed")
        return Strip(title, told, _height(rows), tuple(ticks), (limit,), (LEFT, limit.x), tuple(rows), series)


def decibels(gate: Gate) -> Strip:
    """PSNR of every output against its threshold, a row for each use of a function."""
    needed = gate.thresholds.psnr_db
    axis = _Decibels.over([item.psnr_db for item in gate.evidence], needed)
    names = _outputs(gate.evidence)
    rows = []
    for at, (label, items) in enumerate(_uses(gate.evidence)):
        points = tuple(axis.point(item.psnr_db, names.index(item.output), item.output) for item in items if item.psnr_db is not None)
        lost = [item.output for item in items if item.psnr_db is None]
        rows.append(Row(label, _y(at), points, note=f"not finite: {', '.join(lost)}" if lost else ""))
    told = f"Each mark is one output; right is better, {needed:g} dB are needed. Equal values stand at the right edge."
    return axis.strip("PSNR of every output, in decibels", told, rows, _series(names))


def divergences(gate: Gate) -> Strip | None:
    """KL of every output that has one, mean and greatest, on a logarithmic axis. None where no output has one."""
    evidence = [item for item in gate.evidence if item.kl_max is not None]
    if not evidence:
        return None
    figures = [kl for item in evidence for kl in (item.kl_mean, item.kl_max) if kl]
    limits = gate.thresholds
    low = math.floor(math.log10(min([*figures, limits.kl_mean]))) - 1
    high = math.floor(math.log10(max([*figures, limits.kl_max]))) + 1
    scale = _Scale(10.0**low, 10.0**high, log=True)
    names = _outputs(gate.evidence)  # as in the other figure: one mark for one output
    rows = []
    for at, (label, items) in enumerate(_uses(evidence)):
        points, spans = [], []
        for item in items:
            series, judged = names.index(item.output), item.output == "logits"
            low_kl, high_kl = item.kl_mean or 0.0, item.kl_max or 0.0
            fits = (not judged or low_kl <= limits.kl_mean, not judged or high_kl <= limits.kl_max)
            text = f"{item.output}: mean {low_kl:.1e}, greatest {high_kl:.1e} nats"
            points += [Point(scale.x(low_kl), series, text, fits[0], hollow=True), Point(scale.x(high_kl), series, text, fits[1])]
            spans.append((scale.x(low_kl), scale.x(high_kl), series))
        rows.append(Row(label, _y(at), tuple(points), tuple(spans)))
    powers = range(low + 1, high + 1, 2 if high - low > 8 else 1)
    ticks = [(scale.x(10.0**low), "0"), *((scale.x(10.0**power), f"1e{power}") for power in powers)]
    mean, greatest = _nats(limits.kl_mean), _nats(limits.kl_max)
    lines = (Limit(scale.x(limits.kl_mean), f"mean {mean}", dashed=True), Limit(scale.x(limits.kl_max), f"greatest {greatest}"))
    told = (
        "Hollow marks are means over positions, filled ones the greatest position; left is better. Logits may have a mean of "
        f"{mean} and at most {greatest}. The axis is logarithmic, zero at its left end."
    )
    title = "KL divergence from the reference, in nats per position"
    return Strip(title, told, _height(rows), tuple(ticks), lines, (lines[1].x, RIGHT), tuple(rows), _series(names))


def lengths(validation: ShapeValidation, needed: float) -> Strip:
    """PSNR of every enumerated length, of prefill and of the decode steps after it."""
    results = sorted(validation.results.items(), key=lambda item: int(item[0]))
    axis = _Decibels.over([db for _, result in results for db in (result.psnr_db, result.decode_psnr_db)], needed)
    rows = []
    for at, (length, result) in enumerate(results):
        figures = (("prefill", result.psnr_db), (f"{result.decode_steps or 0} decode steps", result.decode_psnr_db))
        points = tuple(axis.point(db, series, name) for series, (name, db) in enumerate(figures) if db is not None)
        label = f"{length} tokens" + (", primary" if int(length) == validation.primary_shape else "")
        rows.append(Row(label, _y(at), points, note="rejected" if result.status == "rejected" else ""))
    told = f"Each length was run through the saved files and compared with the eager student; right is better, {needed:g} dB are needed."
    return axis.strip("PSNR of every length, in decibels", told, rows, (("prefill", "circle"), ("decode after it", "diamond")))


def frontier(points: Sequence[FrontierPoint]) -> Scatter | None:
    """Bytes of the weight file against divergence from the checkpoint; None where nothing was searched."""
    found = sorted(points, key=lambda point: point.weight_bytes)
    if len(found) < 2:
        return None
    kls = [max(point.kl_predicted if point.kl_measured is None else point.kl_measured, 1e-12) for point in found]
    sizes = [point.weight_bytes for point in found]
    x = _Scale(sizes[0], sizes[-1] if sizes[-1] > sizes[0] else sizes[0] + 1)
    low, high = math.floor(math.log10(min(kls))), math.ceil(math.log10(max(kls)))
    high = max(high, low + 1)
    top, bottom = 16.0, 186.0

    def across(size: float) -> float:
        return round(44 + (x.x(size) - LEFT) * (RIGHT - 56) / (RIGHT - LEFT), 2)

    def down(kl: float) -> float:
        return round(bottom - (bottom - top) * (math.log10(kl) - low) / (high - low), 2)

    marks = []
    for point, kl, size in zip(found, kls, sizes, strict=True):
        how = "predicted" if point.kl_measured is None else "measured"
        label = f"{human(size, 'B')}, KL {kl:.1e} {how}: {_forms(point.forms)}"
        marks.append((across(size), down(kl), label, point.chosen, point.kl_measured is not None))
    steps = [sizes[0] + (sizes[-1] - sizes[0]) * part / 3 for part in range(4)]
    path = "M" + " L".join(f"{a:g} {b:g}" for a, b, *_ in marks)
    powers = range(low, high + 1, max(1, math.ceil((high - low) / 6)))
    title = "Size of the weights against divergence from the checkpoint"
    told = "Each point is one choice of forms; lower and further left is better. Filled points were measured, hollow ones predicted."
    return Scatter(
        title,
        told,
        bottom + 34,
        tuple((across(size), human(size, "B")) for size in steps),
        tuple((down(10.0**power), f"1e{power}") for power in powers),
        path,
        tuple(marks),
    )


def _uses(evidence: Sequence[Evidence]) -> list[tuple[str, list[Evidence]]]:
    """Evidence by how a function was used, in order."""
    found: dict[str, list[Evidence]] = {}
    for item in evidence:
        label = f"{item.function}, {item.tokens} tokens" if item.function == "main" else item.function
        label += (f", {item.case}" if item.case else "") + (f", against {item.against}" if item.against else "")
        found.setdefault(label, []).append(item)
    return list(found.items())


def _outputs(evidence: Sequence[Evidence]) -> list[str]:
    """Names of outputs, logits first: marks are given in this order."""
    return sorted({item.output for item in evidence}, key=lambda name: (name != "logits", name != "hidden", name))


def _series(names: Sequence[str]) -> tuple[tuple[str, Mark], ...]:
    return tuple((name, MARKS[index % len(MARKS)]) for index, name in enumerate(names))


def _y(at: int) -> float:
    """The line of a row; its label stands above it."""
    return TOP + ROW * (at + 0.5) + 6


def _height(rows: Sequence[Row]) -> float:
    return TOP + ROW * len(rows) + BOTTOM


def _nats(value: float) -> str:
    """`1e-4` for 0.0001, and 0.05 as it is."""
    digits, _, power = f"{value:e}".partition("e")
    short = f"{float(digits):g}"
    return f"{value:g}" if len(short) > 1 or value >= 0.01 else f"{short}e{int(power)}"


def _forms(forms: dict[str, int]) -> str:
    return ", ".join(f"{count} {form}" for form, count in forms.items())
