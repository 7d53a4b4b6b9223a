"""How far the two lanes are apart, as a table.

Here: its rows. Not here: the figures (pipeline/gates/drift.py).
"""

from __future__ import annotations

from rich.box import Box
from rich.table import Table
from rich.text import Text

from interlock.contracts.package import Drift, Evidence
from interlock.voice import plain


def drift_table(drift: Drift, box: Box) -> Table:
    """One row for each output: the other lane against the student, and against the published package."""
    table = Table(box=box, title="the other lane (torch.export), on the same inputs", title_justify="left")
    for name in ("function", "output", "positions", "against the student dB", "against the package dB", "KL max", "flips"):
        table.add_column(name, justify="left" if name in ("function", "output") else "right")
    student = {(item.function, item.tokens, item.output): item for item in drift.evidence if item.against is None}
    for item in (item for item in drift.evidence if item.against is not None):
        alone = student[item.function, item.tokens, item.output]
        name = f"{item.function}, {item.tokens} tokens" if item.function == "main" else item.function
        figures = (_decibels(alone), _decibels(item), _number(item.kl_max, ".1e"), _number(item.flips, "d"))
        table.add_row(Text(plain(name)), Text(plain(item.output)), str(item.positions), *figures)
    table.caption = Text(plain("operations more or fewer: " + "; ".join(f"{names} {_counts(counts)}" for names, counts in _alike(drift.operations))))
    return table


def _alike(operations: dict[str, dict[str, int]]) -> list[tuple[str, dict[str, int]]]:
    """Functions with the same differences together."""
    names: dict[str, list[str]] = {}
    for function, counts in operations.items():
        names.setdefault(_counts(counts), []).append(function)
    return [(", ".join(functions), operations[functions[0]]) for functions in names.values()]


def _counts(counts: dict[str, int]) -> str:
    return " ".join(f"{kind} {count:+d}" for kind, count in counts.items() if kind != "const") or "none"


def _decibels(item: Evidence) -> str:
    return _number(item.psnr_db, ".1f")


def _number(value: float | int | None, form: str) -> str:
    return "-" if value is None else format(value, form)
