"""A build while it runs: every stage with its state, time, memory and last line; on a terminal as one table, elsewhere as plain lines.

Here: showing. Not here: what happens (driver/build.py), the report at the end (reports/build.py).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from interlock.voice import PULSE, human, plain
from pipeline.driver.children import resident_bytes
from pipeline.driver.graph import Node
from pipeline.training.told import Told, progress_text, told

MARKS = {"waiting": "·", "running": "▸", "kept": "✓", "made": "✓", "rejected": "✗", "failed": "✗", "skipped": "–"}
COLOURS = {
    "running": "bold cyan",
    "kept": "green",
    "made": "bold green",
    "rejected": "bold red",
    "failed": "bold red",
    "skipped": "dim",
    "waiting": "dim",
}
# A matrix has more steps than a screen has lines: then only those that are not waiting are shown, the newest last.
ROWS = 24
# A log of lines that says where a training is: after a second, then ever more rarely, at last this often. Evaluations are told besides.
RAREST_S = 60.0


class PlainView:
    """Lines with the step's name in front: for logs and pipes. Of a step that tells figures no pulse is shown, but where it is, ever more rarely."""

    def __init__(self, name: Callable[[Node], str], clock: Callable[[], float] = time.monotonic) -> None:
        self._name, self._clock = name, clock
        self._next: dict[str, tuple[float, float]] = {}  # by node: when its figures are shown again, and how long the wait was

    def __enter__(self) -> PlainView:
        return self

    def __exit__(self, *_: object) -> None: ...

    def step(self, node: Node, state: str, detail: str = "") -> None:
        if state != "waiting":
            self.say(f"{self._name(node)}: {state}{f' ({detail})' if detail else ''}")

    def line(self, node: Node, text: str) -> None:
        if node.identity not in self._next or not text.startswith(PULSE):
            self.say(f"{self._name(node)}| {text}")

    def figures(self, node: Node, figures: dict[str, Any]) -> None:
        now, (due, waited) = self._clock(), self._next.get(node.identity, (0.0, 0.5))
        if (news := told(figures)) is not None and now >= due:
            self._next[node.identity] = now + min(2 * waited, RAREST_S), min(2 * waited, RAREST_S)
            if news.now.validation is None:  # of an evaluation the step says more itself
                self.say(f"{self._name(node)}| {progress_text(news)}")

    def started(self, node: Node, pid: int) -> None: ...

    def say(self, text: str) -> None:
        sys.stderr.write(plain(text) + "\n")
        sys.stderr.flush()

    def warn(self, text: str) -> None:
        self.say(f"warning: {text}")


class RichView:
    """One table that changes in place."""

    def __init__(self, name: Callable[[Node], str], nodes: Iterable[Node]) -> None:
        from rich.console import Console
        from rich.live import Live

        self._name = name
        self._rows: dict[str, dict[str, Any]] = {node.identity: {"node": node, "state": "waiting", "line": ""} for node in nodes}
        self._live = Live(console=Console(stderr=True, highlight=False), get_renderable=self.shown, refresh_per_second=8, transient=True)

    def __enter__(self) -> RichView:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()

    def step(self, node: Node, state: str, detail: str = "") -> None:
        row = self._rows[node.identity]
        if state == "running":
            row["since"] = time.monotonic()
        elif "since" in row:
            row["took"] = time.monotonic() - row.pop("since")
        row.pop("pid", None)
        row |= {"state": state, "line": plain(detail)}

    def line(self, node: Node, text: str) -> None:
        row = self._rows[node.identity]
        if "told" not in row or not text.startswith(PULSE):
            row["line"] = plain(text).strip()

    def figures(self, node: Node, figures: dict[str, Any]) -> None:
        if (news := told(figures)) is not None:
            self._rows[node.identity] |= {"told": news, "line": plain(progress_text(news))}

    @property
    def told(self) -> Told | None:
        """The last that a step which runs has told of its training."""
        return next((row["told"] for row in self._rows.values() if "told" in row and row["state"] == "running"), None)

    def started(self, node: Node, pid: int) -> None:
        self._rows[node.identity]["pid"] = pid

    def say(self, text: str) -> None:
        self._live.console.print(plain(text), style="dim", markup=False)

    def warn(self, text: str) -> None:
        self._live.console.print(f"warning: {plain(text)}", style="yellow", markup=False)

    def shown(self) -> Any:
        """What is on the screen now."""
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), expand=True)
        for ratio in (None, None, None, None, 1):
            table.add_column(no_wrap=True, overflow="ellipsis", ratio=ratio, justify="left")
        rows = list(self._rows.values())
        if len(rows) > ROWS:
            rows = [row for row in rows if row["state"] != "waiting"][-ROWS:]
        for row in rows:
            style = COLOURS[row["state"]]
            if "pid" in row:
                row["peak"] = max(row.get("peak", 0), resident_bytes(row["pid"]) or 0)
            passed = time.monotonic() - row["since"] if "since" in row else row.get("took")
            memory = human(row["peak"], "B") if row.get("peak") else ""
            clock = f"{passed:.0f} s" if passed is not None else ""
            name = plain(self._name(row["node"]))
            table.add_row(Text(f"{MARKS[row['state']]} {name}", style=style), row["state"], clock, memory, Text(row["line"], style="dim"))
        return table


def view_for(nodes: Iterable[Node], name: Callable[[Node], str]) -> PlainView | RichView:
    """The table on a terminal, lines elsewhere."""
    return RichView(name, nodes) if sys.stderr.isatty() else PlainView(name)


class Silent:
    """Shows nothing: for library use."""

    def step(self, node: Node, state: str, detail: str = "") -> None: ...

    def line(self, node: Node, text: str) -> None: ...

    def figures(self, node: Node, figures: dict[str, Any]) -> None: ...

    def started(self, node: Node, pid: int) -> None: ...

    def say(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...
