"""What a training would take, as facts.

Here: names, units, what each figure rests on. Not here: the figures (pipeline/training/estimate.py).
"""

from __future__ import annotations

from typing import Any

import msgspec

from interlock.voice import human
from pipeline.reports.terminal import console, grid
from pipeline.training.estimate import MERGED, THROWN_AWAY, Estimate
from pipeline.training.told import duration


def show(found: Estimate, before: tuple[float, bool] | None) -> None:
    console().print(grid(rows(found, before)))


def rows(found: Estimate, before: tuple[float, bool] | None) -> list[tuple[str, str]]:
    """before: seconds that this very training took (True), or the last one of its recipe (False)."""
    memory = found.memory_bytes
    exact = ", ".join(f"{name} {human(size, 'B')}" for name, size in memory.items() if name != "activations")
    others = f", and about {human(found.others_bytes, 'B')} for interpreter, libraries and rows" if found.others_bytes is not None else ""
    kept = {name: count for name, count in found.parameters.items() if name not in (THROWN_AWAY, MERGED)}
    runs = "" if found.runs == 1 else f" for each of {found.runs} runs, the student's and its controls'"
    per_epoch = f"{found.steps_per_epoch} steps of {found.batch} rows an epoch"
    asked = f", evaluation {found.evaluation_s:.1f} s, {found.evaluations} times" if found.evaluation_s is not None else ", evaluations not counted"
    shared = f", in one process instead of {found.processes}" if found.processes > 1 else ""
    table = [
        ("parameters", f"{sum(kept.values()):,}: {', '.join(f'{name} {count:,}' for name, count in kept.items())}"),
        *[("", f"{count:,} more are {name}") for name, count in found.parameters.items() if name not in kept],
        *([("", f"{found.trained:,} of these are trained")] if found.trained < sum(found.parameters.values()) else []),
        ("memory", f"{human(sum(memory.values()), 'B')}{others}"),
        ("", f"exactly: {exact}"),
        ("", f"estimate: activations {human(memory['activations'], 'B')}, what the longest rows keep for the backward pass"),
        ("data", f"{found.rows:,} rows, {found.row_tokens:,} tokens with all steps in words"),
        ("steps", f"{found.steps:,}{runs}; {per_epoch}, {found.epochs:.1f} epochs, about {found.row_tokens * found.epochs:,.0f} tokens"),
        ("time", f"about {duration(found.total_s)}, by {found.timed_steps} steps taken here{shared}: {found.step_s:.3g} s a step{asked}"),
    ]
    if before is not None:
        table.append(
            ("", f"{duration(before[0])} took {'this very training here' if before[1] else 'the last one of this recipe, of other values or code'}")
        )
    return table


def estimate_dict(found: Estimate, before: tuple[float, bool] | None) -> dict[str, Any]:
    """The same in JSON."""
    took = {"took_s": before[0], "same": before[1]} if before else None
    made: dict[str, Any] = msgspec.to_builtins(found)
    return made | {"epochs": found.epochs, "total_s": found.total_s, "before": took}
