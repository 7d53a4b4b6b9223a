"""An evaluation on a terminal: the verdict first, each gate, every figure with its interval, means by what the items are like, what was missed.

Here: layout. Not here: figures (eval), the page (evaluation_page.py).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from eval.comparison import Compared
from interlock.contracts.evaluation import EvaluationContract, GateResult
from interlock.voice import plain
from pipeline.driver.stage import Report
from pipeline.reports.facts import facts_of
from pipeline.reports.terminal import box, cell, console, grid, mark

SUMMARY, PAGE = "summary.json", "report.html"
STYLES = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow"}
# Rows of one table, items of one list: more belongs on the page.
MOST = 12


def show(report: Report) -> None:
    """What a published evaluation shows, and where it lies."""
    contract = report.contract
    assert isinstance(contract, EvaluationContract)
    _show(report.out, [*facts_of(contract), ("digest", contract.digest[:16]), ("time", f"{report.wall_s:.1f} s")])


def show_rejected(directory: Path) -> None:
    """What an evaluation shows that its gates refuse."""
    _show(directory, [])


def _show(directory: Path, facts: list[tuple[str, str]]) -> None:
    told = json.loads((directory / SUMMARY).read_bytes())
    gates = [GateResult.model_validate(gate) for gate in told["gates"]]
    out = console()
    out.print()
    title = f"{told['suite']}: {told['verdict']}, {told['items']} items → {directory}"
    out.print(mark(told["verdict"] == "pass"), Text(plain(title), style="bold"))
    out.print(Text(plain(told["description"]), style="dim"))
    out.print(grid(facts))
    if gates:
        out.print(gates_table(gates))
    out.print(figures_table(told["figures"]))
    for name, groups in told["by"].items():
        out.print(groups_table(name, groups))
    for gate in gates:
        if items := told["figures"][gate.metric]["missed"]:
            more = f" and {len(items) - MOST} more" if len(items) > MOST else ""
            out.print(Text(plain(f"{gate.name} missed: {', '.join(items[:MOST])}{more}")))
    out.print(Text(plain(f"to read: {directory / PAGE}")))


def gates_table(gates: Sequence[GateResult]) -> Table:
    table = Table(box=box(), title="gates", title_justify="left")
    for name in ("gate", "claim", "measured", "interval", "items", "verdict"):
        table.add_column(name, justify="right" if name in ("measured", "interval", "items") else "left", overflow="fold")
    for gate in gates:
        measured, interval = ("-", "-") if gate.measured is None else (f"{gate.measured:.4g}", f"{gate.low:.4g} to {gate.high:.4g}")
        verdict = Text(plain(f"{gate.verdict}, waived: {gate.waived}" if gate.waived else gate.verdict), style=STYLES[gate.verdict])
        table.add_row(cell(gate.name), f"{gate.claim} {gate.threshold:g}", measured, interval, str(gate.n), verdict)
    return table


def figures_table(figures: dict[str, Any]) -> Table:
    table = Table(box=box(), title="figures", title_justify="left")
    for name in ("figure", "measured", "interval", "items", "it says"):
        table.add_column(name, justify="right" if name in ("measured", "interval", "items") else "left")
    for name, figure in figures.items():
        measured = "-" if "measured" not in figure else f"{figure['measured']:.4g}"
        interval = "-" if "low" not in figure else f"{figure['low']:.4g} to {figure['high']:.4g}"
        table.add_row(cell(name), measured, interval, str(figure["n"]), cell(figure["words"]))
    return table


def groups_table(name: str, groups: dict[str, dict[str, float]]) -> Table:
    """Means of each group, the columns that all of them have."""
    columns = [one for one in next(iter(groups.values())) if all(one in means for means in groups.values())]
    table = Table(box=box(), title=cell(f"by {name}"), title_justify="left")
    for column in (name, *columns):
        table.add_column(cell(column), justify="left" if column == name else "right")
    for group, means in list(groups.items())[:MOST]:
        table.add_row(cell(group), *(f"{means[column]:.4g}" for column in columns))
    return table


def show_compared(found: Sequence[Compared]) -> None:
    """Scores of two evaluations, the worse ones first, and the items that flipped."""
    out, table = console(), Table(box=box())
    for name in ("score", "before", "now", "change", "p", "items", "margin shown", "flips", "verdict"):
        table.add_column(name, justify="left" if name in ("score", "verdict") else "right")
    order = {"worse": 0, "open": 1, "no worse": 2, "better": 3}
    for one in sorted(found, key=lambda one: order[one.verdict]):
        change = f"{one.change.measured:+.3g} ({one.change.low:+.3g} to {one.change.high:+.3g})"
        margin = "-" if one.resolvable is None else f"{one.resolvable:.2g}"
        style = {"worse": "bold red", "open": "bold yellow"}.get(one.verdict, "bold green")
        table.add_row(cell(one.score), f"{one.before:.4g}", f"{one.now:.4g}", change, f"{one.adjusted:.2g}", str(one.n), margin,
                      f"-{len(one.lost)} +{len(one.gained)}", Text(one.verdict, style=style))  # fmt: skip
    out.print(table)
    for one in found:
        for name, items in (("lost", one.lost), ("gained", one.gained)):
            if items:
                more = f" and {len(items) - MOST} more" if len(items) > MOST else ""
                out.print(Text(plain(f"{one.score} {name}: {', '.join(items[:MOST])}{more}")))
