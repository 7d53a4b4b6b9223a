"""Two artifacts side by side, on a terminal.

Here: tables of what differs, the outcome last. Not here: comparing (pipeline/comparison).
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from interlock.voice import human, plain
from pipeline.comparison.records import Comparison, Tensor
from pipeline.reports.terminal import box, cell, console, mark

# Rows of a table that a person reads; --json has all.
MOST = 20
WORDS = {"decides": "", "storage": "storage", "measured": "measured", "origin": "origin"}


def show_comparison(found: Comparison) -> None:
    out = console()
    for name, side in (("A", found.a), ("B", found.b)):
        out.print(Text.assemble((f"{name}  ", "bold"), plain(f"{side.kind} {side.directory}: {human(side.bytes, 'B')}, digest {side.digest[:16]}")))
    _table(out, "fields", ("part", "field", "A", "B", ""), [(c.part, c.place, c.a, c.b, WORDS[c.weight]) for c in found.changes])
    figures = [item for item in found.figures if item.a != item.b]
    _table(out, "gates", ("part", "figure", "A", "B"), [(f.part, f.place, _figure(f.a, f.unit), _figure(f.b, f.unit)) for f in figures], 2)
    files = [file for file in found.files if not file.equal]
    _table(out, "files", ("file", "A", "B"), [(file.path, _size(file.a), _size(file.b)) for file in files], 1)
    counts = [(item.part, item.function, item.operation, item.a, item.b) for item in found.counts]
    _table(out, "operations", ("part", "function", "operation", "A", "B"), counts, 3)
    structure = [(item.part, item.function, item.place, item.a, item.b) for item in found.structure]
    _table(out, "graphs", ("part", "function", "place", "A", "B"), structure)
    rows = [(t.part, t.name, _shapes(t), _forms(t), _small(t.max_abs), _small(t.relative), _decibels(t)) for t in found.tensors]
    _table(out, "tensors, worst first", ("part", "tensor", "shape", "form", "max abs", "relative", "PSNR"), rows, 4)
    if found.compared:
        others = sum(not item.within for item in found.tensors)
        stated = "equal" if not found.bound else f"within {found.bound:g} of their greatest element"
        out.print(f"{found.compared} tensors and constants compared: {found.compared - others} {stated}, {others} not")
    _outcome(out, found)


def _outcome(out: Console, found: Comparison) -> None:
    told = {
        "same": "every file and every field that says what it is",
        "numerically same": f"bytes differ; no value differs by more than {found.bound:g} of its tensor's greatest"
        if found.bound
        else "bytes differ; every value is equal",
        "differs": f"{len(found.reasons)} reason{'' if len(found.reasons) == 1 else 's'}",
    }[found.outcome]
    out.print(mark(found.outcome != "differs"), Text(plain(f"{found.outcome}: {told}"), style="bold"))
    for reason in found.reasons[:5]:
        out.print(Text(plain(f"  {reason}")), soft_wrap=True)
    if len(found.reasons) > 5:
        out.print(f"  and {len(found.reasons) - 5} more (--json lists them)")


def _table(out: Console, title: str, names: tuple[str, ...], rows: Sequence[tuple[object, ...]], figures_from: int | None = None) -> None:
    """figures_from: the column from which on cells are figures."""
    if not rows:
        return
    table = Table(box=box(), title=title, title_justify="left")
    for index, name in enumerate(names):
        table.add_column(name, justify="right" if figures_from is not None and index >= figures_from else "left", overflow="fold")
    for row in rows[:MOST]:
        table.add_row(*(cell("-" if value is None else value) for value in row))
    if len(rows) > MOST:
        table.caption = f"{len(rows) - MOST} more (--json lists them)"
    out.print(table)


def _figure(value: float | None, unit: str) -> str | None:
    if value is None:
        return None
    return {"dB": f"{value:.1f} dB", "KL": f"KL {value:.1e}"}.get(unit, f"{value:.4g}")


def _size(value: int | None) -> str | None:
    return None if value is None else human(value, "B")


def _shapes(item: Tensor) -> str:
    one, other = ("none" if shape is None else " x ".join(map(str, shape)) or "scalar" for shape in (item.shape_a, item.shape_b))
    return one if one == other else f"{one} | {other}"


def _forms(item: Tensor) -> str:
    return f"{item.form_a}" if item.form_a == item.form_b else f"{item.form_a or 'none'} | {item.form_b or 'none'}"


def _small(value: float | None) -> str | None:
    return None if value is None else f"{value:.3g}"


def _decibels(item: Tensor) -> str | None:
    return None if item.psnr_db is None else "equal" if item.max_abs == 0 else f"{item.psnr_db:.1f} dB"
