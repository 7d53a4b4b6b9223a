"""The table of everything that was measured, as data in the repository.

Here: its file, finding and replacing a column, its rows for people. Not here: measuring (probe.py), colours and pages (reports, docs).
The file has a line per cell, and each set of operations once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interlock import fs
from interlock.errors import refuse
from pipeline.compat.cases import CASES, Case
from pipeline.compat.results import GOOD, Column, Result, Versions

FILE = Path(__file__).with_name("table.json")
REMEDY = "measure again with `ci/compat`"


@dataclass(frozen=True)
class Table:
    """Columns in the order of their versions."""

    columns: tuple[Column, ...]

    def column_for(self, torch: str, python: str, coremltools: str, numpy: str, platform: str | None = None) -> Column | None:
        """What was measured with exactly these versions; None where nothing was. python: with or without its patch number; platform: any if None."""
        minor = ".".join(python.split(".")[:2])
        wanted = (torch.partition("+")[0], minor, coremltools, numpy)
        fitting = (column for column in self.columns if platform in (None, column.versions.platform))
        return next((column for column in fitting if _versions(column)[:4] == wanted), None)

    def with_column(self, column: Column) -> Table:
        """The table with that column instead of what it says of the same versions."""
        others = [each for each in self.columns if each.versions != column.versions]
        return Table(tuple(sorted([*others, column], key=_order)))

    def rows(self) -> Iterator[tuple[Case, list[Result | None]]]:
        """Each case with its result in every column."""
        for case in CASES:
            yield case, [column.cells.get(case.name) for column in self.columns]


def load(path: Path = FILE) -> Table:
    """Raises ContractError for a file that is no table."""
    try:
        document = json.loads(path.read_bytes())
        return Table(tuple(_column(entry, document["operations"]) for entry in document["columns"]))
    except FileNotFoundError:
        return Table(())
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise refuse(path, "", expected="a table of measured columns", found=f"{type(problem).__name__}: {problem}", remedy=REMEDY) from problem


def save(table: Table, path: Path = FILE) -> None:
    fs.save_file(path, text(table).encode())


def text(table: Table) -> str:
    """The file: columns with a line per cell, then every set of operations by its digest."""
    sets = {cell.digest: cell.operations for column in table.columns for cell in column.cells.values() if cell.digest}
    columns = [
        f'  {{"versions": {json.dumps(vars(column.versions))}, "cells": {{\n'
        + _lines((name, _cell(cell)) for name, cell in column.cells.items())
        + "\n  }}"
        for column in table.columns
    ]
    operations = _lines((digest, dict(sorted(sets[digest].items()))) for digest in sorted(sets))
    return '{"columns": [\n' + ",\n".join(columns) + '\n], "operations": {\n' + operations + "\n}}\n"


def good(result: Result | None) -> bool:
    return result is not None and result.status in GOOD


def brief(result: Result | None) -> str:
    """One cell for people: `70.1 dB`, `refused`, `failed`."""
    if result is None:
        return "not measured"
    return f"{result.db:.1f} dB" if result.status == "ok" and result.db is not None else result.status


def _lines(entries: Iterator[tuple[str, Any]]) -> str:
    return ",\n".join(f"    {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in entries)


def _cell(result: Result) -> dict[str, Any]:
    fields = {"status": result.status, "db": result.db, "operations": result.digest, "note": result.note}
    return {name: value for name, value in fields.items() if value not in (None, "")}


def _column(entry: dict[str, Any], sets: dict[str, dict[str, int]]) -> Column:
    cells = {}
    for name, cell in entry["cells"].items():
        operations = sets[cell["operations"]] if "operations" in cell else {}
        cells[name] = Result(cell["status"], cell.get("db"), operations, cell.get("note", ""))
    return Column(Versions(**entry["versions"]), cells)


def _versions(column: Column) -> tuple[str, str, str, str, str]:
    found = column.versions
    return found.torch, found.python, found.coremltools, found.numpy, found.platform


def _order(column: Column) -> list[Any]:
    """By version, Pythons of one set of packages side by side."""
    torch, python, *others = _versions(column)
    return [[int(part) if part.isdigit() else 0 for part in version.split(".")] for version in (torch, *others[:2], python)] + [others[2]]
