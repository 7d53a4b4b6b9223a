"""Stage reports on stdout: rich on a terminal, the same tables in plain characters elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from interlock.contracts.base import Contract
from interlock.voice import human, plain
from pipeline.driver.stage import Report
from pipeline.reports.facts import facts_of
from pipeline.reports.terminal import box, cell, console, grid, mark, tables_of


def show(reports: Iterable[Report]) -> None:
    """What was made, by each stage; a summary of all where there are several."""
    out = console()
    reports = list(reports)
    for report in reports:
        _one(out, report)
    if len(reports) > 1:
        out.print(_summary(reports))


def show_verified(directory: Path, contract: Contract) -> None:
    """The outcome of `verify`."""
    out = console()
    size = sum(entry.bytes for entry in contract.files)
    line = f"{contract.kind} {directory}: {len(contract.files)} files, {human(size, 'B')}, digest {contract.digest[:16]}"
    out.print(mark(True), Text(plain(f"verified {line}")))
    out.print(_facts(contract))


def _one(out: Console, report: Report) -> None:
    contract = report.contract
    size = sum(entry.bytes for entry in contract.files)
    how = "up to date, made in" if report.reused else "made in"
    out.print()
    title = f"{report.stage} → {report.out}  {human(size, 'B')}, {how} {report.wall_s:.1f} s, peak memory {human(report.peak_rss_bytes, 'B')}"
    out.print(mark(True), Text(plain(title), style="bold"))
    if contract.toy:
        out.print(Text("  toy: not for production; everything made from it is toy as well", style="yellow"))
    out.print(_facts(contract))
    for table in tables_of(contract):
        out.print(table)


def _facts(contract: Contract) -> Table:
    return grid([*facts_of(contract), ("digest", contract.digest[:16])])


def _summary(reports: list[Report]) -> Table:
    table = Table(box=box())
    for name in ("stage", "", "time", "peak memory", "size", "output"):
        table.add_column(name, justify="right" if name in ("time", "peak memory", "size") else "left")
    for report in reports:
        size = sum(entry.bytes for entry in report.contract.files)
        state = "up to date" if report.reused else "made"
        table.add_row(report.stage, state, f"{report.wall_s:.1f} s", human(report.peak_rss_bytes, "B"), human(size, "B"), cell(report.out))
    return table
