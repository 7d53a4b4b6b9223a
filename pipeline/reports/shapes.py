"""Enumerated lengths of an export and what the saved files reached at each, as a table.

Here: how they look. Not here: measuring (pipeline/export/shapes.py), the rest of an export's report (text.py).
"""

from __future__ import annotations

import math

from rich.box import Box
from rich.table import Table
from rich.text import Text

from interlock.contracts.export import ShapeResult, ShapeValidation
from interlock.voice import plain


def shapes_table(validation: ShapeValidation, box: Box) -> Table:
    """One line for each length; a rejected one has its reason in place of figures."""
    table = Table(box=box, title="enumerated lengths, saved files against the eager student", title_justify="left")
    latent = any(result.latent_steps is not None for result in validation.results.values())
    for name in (
        "T",
        "",
        "PSNR dB",
        "KL max",
        "flips",
        "decode steps",
        "decode PSNR dB",
        *(("slots", "slot PSNR dB", "own state") if latent else ()),
    ):
        table.add_column(name, justify="right")
    for length, result in sorted(validation.results.items(), key=lambda item: int(item[0])):
        primary = " *" if int(length) == validation.primary_shape else ""
        mark = Text("✓", style="bold green") if result.status == "ok" else Text("✗", style="bold red")
        table.add_row(f"{length}{primary}", mark, *_numbers(result), *(_slots(result) if latent else ()))
    table.caption = "* primary"
    return table


def _slots(result: ShapeResult) -> list[Text]:
    """Of a latent span: its length, fed with the student's states, fed with its own."""
    figures = (result.latent_psnr_db, result.latent_chain_psnr_db)
    return [] if result.error is not None else [_number(result.latent_steps, "d"), *(_number(figure, ".1f") for figure in figures)]


def _number(value: float | int | None, form: str) -> Text:
    """A figure, or a dash where there is none."""
    return Text("-" if value is None or math.isnan(value) else format(value, form))


def _numbers(result: ShapeResult) -> list[Text]:
    if result.error is not None:
        return [Text(plain(result.error)[:100])]

    return [
        _number(result.psnr_db, ".1f"),
        _number(result.kl_max, ".1e"),
        _number(result.argmax_flips, "d"),
        _number(result.decode_steps, "d"),
        _number(result.decode_psnr_db, ".1f"),
    ]
