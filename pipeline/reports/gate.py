"""The package gate's evidence as a table, and the value with the least head-room in words.

Here: how they look. Not here: measuring and judging (pipeline/gates), the rest of a package's report (text.py).
"""

from __future__ import annotations

from rich.box import Box
from rich.table import Table
from rich.text import Text

from interlock.contracts.package import Gate
from interlock.voice import plain

COLUMNS = ("function", "against", "output", "", "rows", "PSNR dB", "worst", "KL mean", "KL max", "flips")


def evidence_table(gate: Gate, box: Box) -> Table:
    """One line for each output of each use of each function; figures that an output does not have are dashes."""
    table = Table(box=box, title=f"the saved package, run by {gate.executor}, against the {gate.reference}", title_justify="left")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in COLUMNS[:3] else "right")
    for item in gate.evidence:
        used = f"{item.function}, {item.case}" if item.case else item.function
        mark = Text("✓", style="bold green") if item.finite else Text("✗", style="bold red")
        decibels = (_figure(item.psnr_db, ".1f"), _figure(item.worst_db, ".1f"))
        decisions = (_figure(item.kl_mean, ".1e"), _figure(item.kl_max, ".1e"), _figure(item.flips, "d"))
        table.add_row(
            *(Text(plain(name)) for name in (used, item.against or gate.reference, item.output)), mark, str(item.positions), *decibels, *decisions
        )
    least = f"at least {gate.thresholds.psnr_db:g} dB, KL mean {gate.thresholds.kl_mean:g}, greatest {gate.thresholds.kl_max:g}"
    table.caption = f"{least}, no decided flip; a repeated run gave {'the same' if gate.repeatable else 'other'} bits"
    return table


def headroom_rows(gate: Gate) -> list[tuple[str, str]]:
    """A fact for the package's grid; none where nothing was watched."""
    if not gate.headroom:
        return []
    least = gate.headroom[0]
    return [("head-room", f"{least.factor:g}x below the end of fp16, least at {least.operation} `{least.value}` of {least.function}")]


def _figure(value: float | int | None, form: str) -> Text:
    return Text("-" if value is None else format(value, form))
