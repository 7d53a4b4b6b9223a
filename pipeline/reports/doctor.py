"""Findings of `doctor` for a person: groups of marked lines, and below what is wrong what it should be and what to do.

Here: rich on a terminal, plain lines elsewhere, and where there is no rich: doctor runs in any Python. Not here: looking (pipeline/doctor).
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby

from interlock.voice import plain
from pipeline.doctor.finding import Finding

# What is missing and not needed is no success, and no fault either.
_MARKS = {"info": ("✓", "ok", "green"), "": ("-", "-", "dim"), "warning": ("!", "!", "bold yellow"), "error": ("✗", "x", "bold red")}


def show(findings: Iterable[Finding]) -> None:
    """Every finding by group, then how many of each kind."""
    found = list(findings)
    if not (sys.stdout.isatty() and _show_rich(found)):
        for line in _lines(found):
            sys.stdout.write(_sayable(line) + "\n")


def _lines(found: list[Finding]) -> Iterator[str]:
    for group, members in groupby(found, key=lambda one: one.group):
        yield group
        for one in members:
            yield f"  {_mark(one)[1]:<2} {one.check}: {plain(one.found)}"
            yield from (f"       {name} {plain(value)}" for name, value in _more(one))
    yield _summary(found)


def _show_rich(found: list[Finding]) -> bool:
    """Whether there is a rich to show them with."""
    try:
        from rich.table import Table
        from rich.text import Text

        from pipeline.reports.terminal import console
    except ModuleNotFoundError:
        return False
    out = console()
    for group, members in groupby(found, key=lambda one: one.group):
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1), title=group, title_justify="left", title_style="bold")
        for overflow in ("ignore", "fold", "fold"):
            table.add_column(overflow=overflow)
        for one in members:
            mark, _, style = _mark(one)
            told = Text(plain(one.found), style="" if one.level == "info" else "bold")
            for name, value in _more(one):
                told.append(f"\n{name} ", style="dim not bold").append(plain(value), style="not bold" if name.strip() == "remedy" else "dim not bold")
            table.add_row(Text(mark, style=style), Text(one.check, style="dim"), told)
        out.print(table)
    out.print(Text(_summary(found), style="bold"))
    return True


def _mark(one: Finding) -> tuple[str, str, str]:
    return _MARKS["" if one.level == "info" and one.remedy else one.level]


def _more(one: Finding) -> list[tuple[str, str]]:
    """What stands below a finding: nothing where all is well."""
    if not one.remedy:
        return []
    named = [("expected", one.expected), ("remedy  ", one.remedy), ("seen in ", one.evidence)]
    return [(name, value) for name, value in named if value]


def _summary(found: list[Finding]) -> str:
    counts = Counter(one.level for one in found)
    if not counts["error"] and not counts["warning"]:
        return f"sound: {counts['info']} things looked at"
    words = [f"{counts[level]} {level}{'s' if counts[level] > 1 else ''}" for level in ("error", "warning") if counts[level]]
    return f"{' and '.join(words)}, {counts['info']} things as they should be"


def _sayable(line: str) -> str:
    """The line in the encoding of stdout, which may be one of the findings."""
    encoding = sys.stdout.encoding or "ascii"
    return line.encode(encoding, errors="backslashreplace").decode(encoding)
