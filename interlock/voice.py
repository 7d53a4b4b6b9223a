"""The one way to speak to a person: steps, progress and warnings on stderr. stdout is data.

Here: the voice that rooms are handed, and the choice between a terminal and plain lines. Not here: reports (pipeline/reports).
rich is imported only for a terminal, when there is something to show.
"""

from __future__ import annotations

import contextlib
import re
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Protocol, TextIO

from interlock.errors import InterlockError

# A person should never wait longer than this without a sign of life.
PULSE_S = 1.0

_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def plain(text: object) -> str:
    """Text that cannot steer a terminal: control, C1, zero-width and bidirectional characters are shown as escapes."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), str(text))


class Task(Protocol):
    """One piece of work in progress."""

    def advance(self, amount: float = 1) -> None: ...

    def note(self, text: str) -> None:
        """What is being done right now, shown beside the label."""
        ...


class Voice(Protocol):
    """What rooms are handed to speak with."""

    def step(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...

    def task(self, label: str, total: float | None = None, unit: str = "") -> contextlib.AbstractContextManager[Task]:
        """Show work that may take more than two seconds. `total` in `unit` gives a rate and a time left; without it, time passed."""
        ...


def human(amount: float, unit: str) -> str:
    """`12.3 MB` for bytes, `1200 tokens` for the rest."""
    if unit != "B":
        return f"{amount:.0f} {unit}".rstrip()
    for name in ("B", "kB", "MB", "GB"):
        if amount < 1000 or name == "GB":
            break
        amount /= 1000
    return f"{amount:.0f} B" if name == "B" else f"{amount:.1f} {name}"


class _Pulse:
    """When something was last said: silence is counted across tasks, or several short ones would be silent together."""

    def __init__(self) -> None:
        # The interpreter itself took a moment to come here.
        self.last = time.monotonic() - 0.5

    def write(self, stream: TextIO, line: str) -> None:
        self.last = time.monotonic()
        stream.write(line + "\n")
        stream.flush()


class _PlainTask:
    def __init__(self, stream: TextIO, pulse: _Pulse, label: str, total: float | None, unit: str) -> None:
        self._stream, self._pulse, self._label, self._total, self._unit = stream, pulse, label, total, unit
        self._done, self._note = 0.0, ""
        self._started = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def advance(self, amount: float = 1) -> None:
        self._done += amount

    def note(self, text: str) -> None:
        self._note = text

    def _beat(self) -> None:
        while not self._ended.wait(max(0.05, self._pulse.last + PULSE_S - time.monotonic())):
            if time.monotonic() - self._pulse.last >= PULSE_S:
                self._pulse.write(self._stream, self.line())

    def line(self) -> str:
        passed = time.monotonic() - self._started
        parts = [f"  {self._label}"]
        if self._note:
            parts.append(self._note)
        if self._total and self._done:
            rate = self._done / passed
            left = (self._total - self._done) / rate
            parts.append(f"{human(self._done, self._unit)} of {human(self._total, self._unit)}, {human(rate, self._unit)}/s, {left:.0f} s left")
        else:
            parts.append(f"{passed:.0f} s")
        return plain(": ".join([parts[0], ", ".join(parts[1:])]))

    def end(self) -> None:
        self._ended.set()
        self._thread.join()


class PlainVoice:
    """Lines without colour or cursor movement: for logs, pipes and dumb terminals."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._pulse = _Pulse()

    def _say(self, text: str) -> None:
        self._pulse.write(self._stream, plain(text))

    def step(self, text: str) -> None:
        self._say(text)

    def warn(self, text: str) -> None:
        self._say(f"warning: {text}")

    @contextlib.contextmanager
    def task(self, label: str, total: float | None = None, unit: str = "") -> Iterator[Task]:
        task = _PlainTask(self._stream, self._pulse, label, total, unit)
        try:
            yield task
        finally:
            task.end()


class _RichTask:
    def __init__(self, progress: Any, label: str, total: float | None, unit: str) -> None:
        self._progress, self._unit, self._total = progress, unit, total
        self._id = progress.add_task(label, total=total, note="", amount="")

    def advance(self, amount: float = 1) -> None:
        self._progress.advance(self._id, amount)
        task = self._progress.tasks[0]
        if self._total and task.elapsed:
            rate = human(task.completed / task.elapsed, self._unit)
            self._progress.update(self._id, amount=f"{human(task.completed, self._unit)}/{human(self._total, self._unit)} {rate}/s")

    def note(self, text: str) -> None:
        from rich.markup import escape

        self._progress.update(self._id, note=escape(plain(text)))


class RichVoice:
    """Colour, spinners and bars on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)

    def _say(self, style: str, mark: str, text: str) -> None:
        from rich.text import Text

        self._console.print(Text(mark, style=style), Text(plain(text)))

    def step(self, text: str) -> None:
        self._say("bold cyan", "▸", text)

    def warn(self, text: str) -> None:
        self._say("yellow", "warning:", text)

    @contextlib.contextmanager
    def task(self, label: str, total: float | None = None, unit: str = "") -> Iterator[Task]:
        from rich import progress as rp
        from rich.markup import escape

        columns = [rp.SpinnerColumn(), rp.TextColumn("{task.description}")]
        if total:
            columns += [rp.BarColumn(bar_width=30), rp.TextColumn("{task.fields[amount]}"), rp.TimeRemainingColumn(compact=True)]
        columns += [rp.TimeElapsedColumn(), rp.TextColumn("[dim]{task.fields[note]}")]
        with rp.Progress(*columns, console=self._console, transient=True) as progress:
            yield _RichTask(progress, escape(plain(label)), total, unit)


class SilentVoice:
    """Says nothing: for library use."""

    def step(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...

    @contextlib.contextmanager
    def task(self, label: str, total: float | None = None, unit: str = "") -> Iterator[Task]:
        yield _SilentTask()


class _SilentTask:
    def advance(self, amount: float = 1) -> None: ...

    def note(self, text: str) -> None: ...


def for_terminal() -> Voice:
    """rich on a terminal, plain lines elsewhere."""
    return RichVoice() if sys.stderr.isatty() else PlainVoice()


def tell(error: InterlockError, stream: TextIO | None = None) -> None:
    """One message for an error: what, where, expected, found, and what to do."""
    stream = stream or sys.stderr
    for line in [*error.lines(), f"hint: {error.remedy}"]:
        stream.write(plain(line) + "\n")
    stream.flush()
