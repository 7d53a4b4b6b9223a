"""Tables of builds: steps, forecasts, cells.

Here: rows in columns, on a terminal or in plain characters. Not here: what the rows say (reports/build.py), artifacts (text.py).
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from interlock.voice import plain
from pipeline.reports.terminal import box, cell, console, mark


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
