"""A training while it runs, on a terminal: losses, accuracy by number of steps, what the student says, rates, below the steps of its build.

Here: showing one record (pipeline/training/told.py). Not here: the table of steps (live.py), what is measured (pipeline/training).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from interlock.voice import human, plain
from pipeline.driver.graph import Node
from pipeline.reports.live import RichView
from pipeline.training.told import Line, Told, duration, losses_of, sample_text


class TrainingView(RichView):
    """The steps, and beneath them the last record and the last evaluation of the run that goes on."""

    def __init__(self, name: Callable[[Node], str], nodes: Iterable[Node]) -> None:
        super().__init__(name, nodes)
        self._evaluated: tuple[str, Line] | None = None

    def figures(self, node: Node, figures: dict[str, Any]) -> None:
        super().figures(node, figures)
        if self.told is not None:
            for line in self.told.lines:
                if line.validation is not None:
                    self._evaluated = self.told.run, line

    def shown(self) -> Any:
        from rich.console import Group

        if (news := self.told) is None:
            return super().shown()
        last = self._evaluated[1] if self._evaluated and self._evaluated[0] == news.run else None
        return Group(super().shown(), panel(news, last))


def panel(news: Told, evaluated: Line | None) -> Any:
    """The record in a frame; `evaluated`: the line of the run's last evaluation, None before the first."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    line = news.now
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("loss", _values(losses_of(news.lines), ".3f"))
    grid.add_row("now", Text(f"lr {line.lr:.2e}   gradient norm {line.norm:.2f}   {line.replaced} steps in slots"))
    grid.add_row("speed", Text("   ".join(_speed(news))))
    bar = Table.grid(expand=True)
    bar.add_row(ProgressBar(total=news.steps, completed=line.step))
    parts = [bar, grid]
    if evaluated is not None:
        parts.append(_evaluation(evaluated))
    title = "student" if news.run == "student" else f"control {plain(news.run)}"
    return Panel(Group(*parts), title=Text(f"{title}: step {line.step} of {news.steps}"), title_align="left", border_style="cyan")


def _speed(news: Told) -> list[str]:
    known = news.tokens_per_s is not None and news.steps_per_s is not None and news.left_s is not None
    rates = [f"{news.tokens_per_s:.0f} tokens/s", f"{news.steps_per_s:.2f} steps/s", f"{duration(news.left_s or 0)} left"] if known else []
    return [*rates, f"at most {human(news.memory_bytes, 'B')} of memory"]


def _evaluation(line: Line) -> Any:
    """Losses by number of slots and accuracies by number of steps in columns, samples below."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    rows = {"loss by slots": line.by_slots, **{f"{way} right": shares for way, shares in line.accuracy.items()}}
    columns = sorted({name for row in rows.values() for name in row}, key=lambda name: (len(name), name))
    title = Text(f"validation loss after step {line.step}: {line.validation:.3f} nats a token", style="bold")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(Text("steps of a row"), style="dim")
    for name in columns:
        table.add_column(Text(plain(name)), justify="right")
    for name, row in rows.items():
        form = ".3f" if name.startswith("loss") else ".0%"
        table.add_row(Text(plain(name)), *(Text(format(row[one], form) if one in row else "") for one in columns))
    samples = [Text(plain(sample_text(one)), style="green" if one.right else "yellow") for one in line.samples]
    return Group(Text(""), title, table, *samples)


def _values(values: dict[str, float], form: str) -> Any:
    from rich.text import Text

    return Text("   ".join(f"{plain(name)} {value:{form}}" for name, value in values.items()))
