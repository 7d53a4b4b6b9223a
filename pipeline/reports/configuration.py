"""A runtime configuration on a terminal: each field, who set it, what a limit made of it.

Here: the table. Not here: what it says (runtime/effective.py).
"""

from __future__ import annotations

from rich.table import Table

from pipeline.reports.terminal import box, cell, console
from runtime.effective import Resolved


def show(resolved: Resolved) -> None:
    table = Table(box=box())
    for name in ("field", "value", "source", "cut"):
        table.add_column(name, overflow="fold")
    for name, one in resolved.as_dict().items():
        cut = f"from {_said(one['asked'])}: {one['cut']}" if one["cut"] else ""
        table.add_row(*map(cell, (name, _said(one["value"]), "file" if one["source"].startswith("file ") else one["source"], cut)))
    console().print(table)
    # Once: in every row a long path would leave no room for the rest.
    for file in sorted({one.source for one in resolved.fields.values() if one.source.startswith("file ")}):
        print(file)


def _said(value: object) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
