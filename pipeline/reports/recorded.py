"""A view that also writes what a training tells into TensorBoard's event files.

Here: which file a line goes to, and when. Not here: the format (tensorboard.py).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

from interlock.logs import Log
from pipeline.driver.graph import Node
from pipeline.driver.plan import View
from pipeline.reports import tensorboard
from pipeline.training.told import Line, told


class EventFiles:
    """One file per run, in a folder of its run's name, begun with the run's first line. `begun`: whether there is any."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, Log] = {}

    @property
    def begun(self) -> bool:
        return bool(self._files)

    @property
    def lost(self) -> bool:
        """Whether something could not be written."""
        return any(file.lost for file in self._files.values())

    def add(self, run: str, lines: Iterable[Line], unix_s: float) -> None:
        if run not in self._files:
            # Ordered by name, the files of a run that was resumed follow each other.
            file = self._files[run] = Log(self._folder / run / f"{tensorboard.NAME}.{unix_s:017.6f}.interlock")
            file.add(tensorboard.begin(unix_s))
        self._files[run].add(b"".join(tensorboard.step(line, unix_s) for line in lines))

    def close(self) -> None:
        for file in self._files.values():
            file.close()


class Recorded:
    """Passes everything on to another view."""

    def __init__(self, view: AbstractContextManager[View], files: EventFiles) -> None:
        self._entered, self._files = view, files

    def __enter__(self) -> Recorded:
        self._view = self._entered.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._files.close()
        self._entered.__exit__(kind, error, trace)

    def figures(self, node: Node, figures: dict[str, Any]) -> None:
        self._view.figures(node, figures)
        # A run's name becomes a folder: only such names as trainings give.
        if (news := told(figures)) is not None and news.run.isidentifier():
            self._files.add(news.run, news.lines, time.time())

    def step(self, node: Node, state: str, detail: str = "") -> None:
        self._view.step(node, state, detail)

    def line(self, node: Node, text: str) -> None:
        self._view.line(node, text)

    def started(self, node: Node, pid: int) -> None:
        self._view.started(node, pid)

    def say(self, text: str) -> None:
        self._view.say(text)

    def warn(self, text: str) -> None:
        self._view.warn(text)
