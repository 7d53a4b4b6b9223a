"""What `data check` says on a terminal.

Here: its tables. Not here: looking (pipeline/datasets/check.py).
"""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from interlock.voice import plain
from pipeline.reports.terminal import box, cell, console, mark

SHOWN = 20


def show(document: dict[str, Any]) -> None:
    """Figures of each split, then the first problems."""
    out = console()
    title = f"{document['task']}  {document['dataset']}, digest {document['digest'][:16]}, licence {document['licence']}"
    out.print(Text(plain(title), style="bold"))
    out.print(_figures(document["splits"]))
    for name, split in document["splits"].items():
        if split["strata"]:
            told = ", ".join(f"{stratum}: {count}" for stratum, count in split["strata"].items())
            out.print(Text(plain(f"{name}, rows by stratum: {told}"), style="dim"))
    count = document["problem_count"]
    if not count:
        out.print(mark(True), Text("nothing is wrong: contract, files, rows, ids, answers, and no split knows another"))
        return
    for one in document["problems"][:SHOWN]:
        told = f"{one['file']} {one['where']}: expected {one['expected']}, found {one['found']}"
        out.print(mark(False), Text(plain(told)), soft_wrap=True)
    if count > SHOWN:
        out.print(Text(f"… and {count - SHOWN} more problems (--json has {len(document['problems'])} of them)"))


def _figures(splits: dict[str, Any]) -> Table:
    table = Table(box=box())
    table.add_column("")
    for name in splits:
        table.add_column(cell(name), justify="right")

    def row(title: str, texts: list[str | None]) -> None:
        if any(texts):
            table.add_row(title, *(cell(text or "-") for text in texts))

    every = list(splits.values())
    row("rows", [str(one["rows"]) for one in every])
    row("repeated prompts", [str(one["repeated_prompts"]) for one in every])
    for key in ("characters", "prompt_tokens", "tokens", "steps"):
        row(f"{key.replace('_', ' ')} of a row: least, median, 95 %, most", [_spread(one[key]) for one in every])
    row("tokens in all", [str(one["token_count"]) if one["token_count"] else None for one in every])
    row("distinct answers", [str(one["answers"]["distinct"]) if one["answers"] else None for one in every])
    row("most common answer", [_most(one) for one in every])
    return table


def _spread(figures: dict[str, int] | None) -> str | None:
    return ", ".join(str(figures[name]) for name in ("least", "median", "p95", "most")) if figures else None


def _most(split: dict[str, Any]) -> str | None:
    """The answer that a model may give without reading, and how often it would be right."""
    if not split["answers"]:
        return None
    text, count = split["answers"]["most_common"][0]
    return f"{text.strip()[:24]!r} {100 * count / split['rows']:.1f} %"
