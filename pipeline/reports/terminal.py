"""What every report on a terminal shares: the console, marks, the grid of facts.

Here: rich on a terminal, the same in plain characters elsewhere. Not here: which reports there are (text.py, page_text.py).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.box import ASCII2, SIMPLE_HEAD, Box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from interlock.voice import plain


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise  # noqa: PLE0704 - called while it is handled: the command's shell knows the exit code of a reader that went away


def console() -> Console:
    # Without a terminal there is no width to adapt to: wide enough that no path is broken.
    return _Console(highlight=False, width=None if sys.stdout.isatty() else 120)


def box() -> Box:
    """Of every table."""
    return SIMPLE_HEAD if sys.stdout.isatty() else ASCII2


def mark(ok: bool) -> Text:
    return Text("✓", style="bold green") if ok else Text("✗", style="bold red")


def cell(text: object) -> Text:
    """A text from a file: neither the terminal nor rich's markup is steered by it."""
    return Text(plain(text))


def grid(rows: Iterable[tuple[str, str]]) -> Table:
    """Names and values in two columns."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, cell(value))
    return table
