"""Curves of a page as geometry: lines over steps, and points against a diagonal.

Here: scales, ticks, paths. Not here: SVG (templates/charts.html.j2), the values (training.py), rows of marks and scatters (plots.py).
Coordinates are units of a viewBox 360 wide, as in plots.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.reports.training import Curve, Curves, Trained

LEFT, RIGHT, TOP, BOTTOM = 34.0, 352.0, 12.0, 162.0
HEIGHT = BOTTOM + 30
# Below this a loss is shown as this: the axis is logarithmic.
LEAST = 1e-6


@dataclass(frozen=True)
class Drawn:
    """A line: its name, its path, and where it ends (a line of one point is only seen there)."""

    name: str
    path: str
    end: tuple[float, float]


@dataclass(frozen=True)
class Chart:
    """Ticks are a place and its name. points: x, y, radius, label."""

    title: str
    description: str
    x_name: str
    y_name: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    lines: tuple[Drawn, ...]
    points: tuple[tuple[float, float, float, str], ...] = ()
    height: float = HEIGHT


def charts(trained: Trained) -> list[Chart]:
    """Every chart of one training that has something to show."""
    found = _of_log(trained.curves) if trained.curves else []
    return found + ([_reliability(trained.reliability)] if trained.reliability else [])


def _of_log(curves: Curves) -> list[Chart]:
    nats = "nats, logarithmic"
    made = [
        _chart("Loss of batches", "Means over neighbouring steps; a part, over those of them that have it.", nats, curves.losses, log=True),
        _chart("Validation loss by number of slots", "Nats per token of text, by how many of a row's steps were in slots. A student whose slots stay "
               "unused shows here: lines of many slots stay above those of few.", nats, curves.validation, log=True),
        *(_chart(f"Right answers while training, {way}", "Share of the validation split's rows, by their number of steps, about a hundred of each.",
                 "share", lines, top=1.0) for way, lines in curves.accuracy.items()),
        _chart("Learning rate", "As the schedule set it at each step.", "", (curves.rate,)),
    ]  # fmt: skip
    return [chart for chart in made if chart is not None]


def _chart(title: str, told: str, y_name: str, curves: Sequence[Curve], *, log: bool = False, top: float | None = None) -> Chart | None:
    """None without a point. top: where the axis ends, by the values where None."""
    shown = [curve for curve in curves if curve.points]
    if not shown:
        return None
    last = max(step for curve in shown for step, _ in curve.points)
    values = [value for curve in shown for _, value in curve.points]
    names, low, high = _powers(values) if log else _even(0.0, top or max(values) or 1.0)

    def x(step: int) -> float:
        return round(LEFT + (RIGHT - LEFT) * step / last, 2)

    def y(value: float) -> float:
        share = (math.log10(max(value, LEAST)) - low) / (high - low) if log else (value - low) / (high - low)
        return round(BOTTOM - (BOTTOM - TOP) * share, 2)

    lines = []
    for curve in shown:
        places = [(x(step), y(value)) for step, value in curve.points]
        lines.append(Drawn(curve.name, "M" + " L".join(f"{a:g} {b:g}" for a, b in places), places[-1]))
    ticks, _, _ = _even(0.0, float(last))
    return Chart(
        title=title,
        description=told,
        x_name="step",
        y_name=y_name,
        x_ticks=tuple((x(int(value)), name) for value, name in ticks if value <= last),
        y_ticks=tuple((y(value), name) for value, name in names),
        lines=tuple(lines),
    )


def _powers(values: Sequence[float]) -> tuple[list[tuple[float, str]], float, float]:
    """Ticks, and the logarithms of the ends, for values on a logarithmic axis: powers of ten, and steps between them where there are few."""
    low = math.log10(max(min(values), LEAST))
    high = max(math.log10(max(*values, LEAST)), low + 0.3)
    between = (1, 1.5, 2, 3, 5, 7) if high - low < 1 else (1, 2, 5) if high - low < 3 else (1,)
    ticks = [factor * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for factor in between]
    return [(tick, _short(float(f"{tick:.6g}"))) for tick in ticks if low - 1e-9 <= math.log10(tick) <= high + 1e-9], low, high


def _even(low: float, high: float) -> tuple[list[tuple[float, str]], float, float]:
    """About five ticks at 1, 2 or 5 times a power of ten, and the ends: the last is `high` or a tick beyond it."""
    power = 10.0 ** math.floor(math.log10((high - low) / 4))
    step = next(factor * power for factor in (1, 2, 5, 10) if (high - low) / (factor * power) <= 5)
    count = math.ceil((high - low) / step - 1e-9)
    ticks = [low + step * number for number in range(count + 1)]
    return [(tick, _short(float(f"{tick:.6g}"))) for tick in ticks], low, ticks[-1]


def _short(value: float) -> str:
    """At most five characters: `2e-4` for 0.0002, `20k` for 20000."""
    if value >= 10_000:
        return f"{value / 1e6:g}M" if value >= 1e6 else f"{value / 1000:g}k"
    if 0 < value < 0.01:
        digits, _, power = f"{value:e}".partition("e")
        return f"{float(digits):g}e{int(power)}"
    return f"{value:g}"


def _reliability(bins: Sequence[tuple[int, float, float]]) -> Chart:
    """What the halt head said against what was so; on the diagonal the two are equal."""
    most = max(rows for rows, _, _ in bins)

    def x(share: float) -> float:
        return round(LEFT + (RIGHT - LEFT) * share, 2)

    def y(share: float) -> float:
        return round(BOTTOM - (BOTTOM - TOP) * share, 2)

    ticks = [(part / 5, f"{part / 5:g}") for part in range(6)]
    points = [
        (x(said), y(true), round(2 + 5 * math.sqrt(rows / most), 2), f"said {said:.2f}, was so {true:.2f}, at {rows} slots")
        for rows, said, true in bins
    ]
    return Chart(
        title="Reliability of the halt head",
        description="Each point is a tenth of the probabilities: how often the span should end there, as the head said and as it was; a larger point "
        "is of more slots. On the line a head means what it says.",
        x_name="probability of the head",
        y_name="share that was so",
        x_ticks=tuple((x(value), name) for value, name in ticks),
        y_ticks=tuple((y(value), name) for value, name in ticks),
        lines=(Drawn("as said", f"M{x(0):g} {y(0):g} L{x(1):g} {y(1):g}", (x(1), y(1))),),
        points=tuple(points),
    )
