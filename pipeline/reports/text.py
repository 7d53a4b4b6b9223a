"""Stage reports on stdout: rich on a terminal, the same tables in plain characters elsewhere."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from interlock.contracts.base import Contract
from interlock.voice import human, plain
from pipeline.driver.stage import Report
from pipeline.reports.facts import facts_of
from pipeline.reports.terminal import box, cell, console, grid, mark, tables_of
from pipeline.verify import Verified


def show(reports: Iterable[Report], *, where: bool = True) -> None:
    """What was made, each with its evidence; `where` it lies, unless that is the store."""
    out = console()
    for report in reports:
        _one(out, report, where)


def show_steps(rows: Iterable[tuple[str, ...]]) -> None:
    """A build's steps: name, state, time, peak memory, reason."""
    out, table = console(), Table(box=box())
    for name in ("step", "", "time", "peak memory", "why"):
        table.add_column(name, justify="right" if name in ("time", "peak memory") else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell(value) for value in row))
    out.print(table)


def show_forecast(rows: Iterable[tuple[str, ...]]) -> None:
    """What a build would do: step, state, time by history, reason."""
    out, table = console(), Table(box=box())
    for name in ("step", "", "time", "why"):
        table.add_column(name, justify="right" if name == "time" else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell(value) for value in row))
    out.print(table)


def show_cells(rows: Iterable[tuple[str, ...]]) -> None:
    """The cells of a matrix: name, mark, bytes of weights, KL mean and greatest, least PSNR, verdict."""
    out, table = console(), Table(box=box())
    for name in ("cell", "", "weights", "KL mean", "KL max", "PSNR dB", ""):
        table.add_column(name, justify="right" if name in ("weights", "KL mean", "KL max", "PSNR dB") else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell(value) for value in row))
    out.print(table)


def show_place(path: str, digest: str) -> None:
    """Where an output lies."""
    console().print(mark(True), Text(plain(f"{path}  {digest[:16]}"), style="bold"))


def show_verified(proven: Verified) -> None:
    """The outcome of `verify`: the artifact, what it was made from and was proven too, and what nobody could show."""
    out = console()
    for one in proven.reached:
        contract = one.contract
        size = sum(entry.bytes for entry in contract.files)
        line = f"verified {contract.kind} {one.directory}: {len(contract.files)} files, {human(size, 'B')}, digest {contract.digest[:16]}"
        out.print(mark(True), Text(plain(line)))
    for ref in proven.missing:
        why = "a foreign file, known by its digest alone" if ref.kind == "source" else "neither in the directory nor in the store"
        out.print(Text(plain(f"not reached: {ref.kind} {ref.digest[:16]}, {why}"), style="dim" if ref.kind == "source" else "yellow"))
    out.print(_facts(proven.contract))


def _one(out: Console, report: Report, where: bool) -> None:
    contract = report.contract
    size = sum(entry.bytes for entry in contract.files)
    out.print()
    name = f"{report.stage} → {report.out}" if where else report.stage
    title = f"{name}  {human(size, 'B')}, made in {report.wall_s:.1f} s, peak memory {human(report.peak_rss_bytes, 'B')}"
    out.print(mark(True), Text(plain(title), style="bold"))
    if contract.toy:
        out.print(Text("  toy: not for production; everything made from it is toy as well", style="yellow"))
    out.print(_facts(contract))
    for table in tables_of(contract):
        out.print(table)


def _facts(contract: Contract) -> Table:
    return grid([*facts_of(contract), ("digest", contract.digest[:16])])
