"""The one way to speak to a person: steps, progress and warnings on stderr. stdout is data.

Here: the voice that rooms are handed, and the choice between a terminal and plain lines. Not here: reports (pipeline/reports).
rich is imported only for a terminal, when there is something to show.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TextIO

from interlock.errors import InterlockError

# A person should never wait longer than this without a sign of life; of long work a tenth of its time, and never ten times as long as this.
PULSE_S = 1.0

# Begins a line of figures for a program that listens; every other line is for people.
FIGURES = "figures: "
# Begins the state of a task that goes on, told again and again.
PULSE = "  "

_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff]")


def plain(text: object) -> str:
    """Text that cannot steer a terminal: control, C1, zero-width and bidirectional characters are shown as escapes, and what no UTF-8 can say."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), str(text))


def path_text(path: Path) -> str:
    """A path as text that every encoding of ours can say: bytes that are no UTF-8 are shown as escapes."""
    return os.fsencode(path).decode(errors="backslashreplace")


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

    def figures(self, figures: dict[str, Any]) -> None:
        """What long work has come to, in JSON, for whoever shows or records it; people see what is made of it, or nothing."""
        ...

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


def _per_second(rate: float, unit: str) -> str:
    return f"{rate:.2f} {unit}/s" if unit != "B" and rate < 10 else f"{human(rate, unit)}/s"


class _Pulse:
    """A small process that says what is being done whenever nothing was said for PULSE_S, and ever more rarely the longer it takes.

    A process and not a thread: loading a large library or saving a model holds the interpreter's lock for seconds. It ends when its input
    does, so a killed parent leaves none behind. Commands, a line each: `T text` a task begins, `U text` its state now, `E` none is left, `S`
    something was said.
    """

    _SCRIPT = """
import os, select, signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
pulse, text, rest = float(sys.argv[1]), None, b""
began = said = time.monotonic() - float(sys.argv[2])
while True:
    now = time.monotonic()
    wait = None if text is None else max(0.02, said + min(10 * pulse, max(pulse, (now - began) / 10)) - now)
    if select.select([0], [], [], wait)[0]:
        data = os.read(0, 65536)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\\n")
        for line in lines:
            kind, _, told = line.partition(b" ")
            if kind == b"S":
                said = time.monotonic()
            else:
                began = time.monotonic() if kind == b"T" else began
                text = None if kind == b"E" else told
    elif text is not None:
        said = time.monotonic()
        os.write(2, b"%s, %d s\\n" % (text, said - began))
"""

    def __init__(self, stream: TextIO) -> None:
        # The interpreter itself took a moment to come here: half a second of silence has passed.
        command = [sys.executable, "-I", "-S", "-c", self._SCRIPT, str(PULSE_S), "0.5"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=stream)

    def tell(self, command: str) -> None:
        """Never fails: without its pulse the work goes on."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(plain(command).encode() + b"\n")
            self._process.stdin.flush()

    def close(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()


class _PlainTask:
    def __init__(self, tell: Callable[[str], None], label: str, total: float | None, unit: str) -> None:
        self._tell, self._label, self._total, self._unit = tell, label, total, unit
        self._done, self._note = 0.0, ""
        self._started = self._told = time.monotonic()
        tell(f"T {self.line()}")

    def advance(self, amount: float = 1) -> None:
        self._done += amount
        self._update()

    def note(self, text: str) -> None:
        self._note = text
        self._update()

    def _update(self) -> None:
        if time.monotonic() - self._told > 0.2:  # thousands of steps a second are no news
            self.tell_again()

    def tell_again(self) -> None:
        """The state now: after a while, or when an inner task has ended."""
        self._told = time.monotonic()
        self._tell(f"U {self.line()}")

    def line(self) -> str:
        passed = time.monotonic() - self._started
        parts = [self._note] if self._note else []
        if self._total and self._done and passed > 0:
            rate = self._done / passed
            left = (self._total - self._done) / rate
            parts.append(f"{human(self._done, self._unit)} of {human(self._total, self._unit)}, {_per_second(rate, self._unit)}, {left:.0f} s left")
        return f"{PULSE}{self._label}" + (": " + ", ".join(parts) if parts else "")


class PlainVoice:
    """Lines without colour or cursor movement: for logs, pipes and dumb terminals."""

    def __init__(self) -> None:
        self._pulse: _Pulse | None = None
        self._tasks: list[_PlainTask] = []

    def _say(self, text: str) -> None:
        sys.stderr.write(plain(text) + "\n")
        sys.stderr.flush()
        self._tell("S")

    def _tell(self, command: str) -> None:
        if self._pulse:
            self._pulse.tell(command)

    def step(self, text: str) -> None:
        self._say(text)

    def warn(self, text: str) -> None:
        self._say(f"warning: {text}")

    def figures(self, figures: dict[str, Any]) -> None:
        self._say(FIGURES + json.dumps(figures))

    @contextlib.contextmanager
    def task(self, label: str, total: float | None = None, unit: str = "") -> Iterator[Task]:
        if self._pulse is None:
            self._pulse = _Pulse(sys.stderr)
            atexit.register(self._pulse.close)
        task = _PlainTask(self._tell, label, total, unit)
        self._tasks.append(task)
        try:
            yield task
        finally:
            self._tasks.pop()
            if self._tasks:
                self._tasks[-1].tell_again()
            else:
                self._tell("E")


class _RichTask:
    def __init__(self, progress: Any, label: str, total: float | None, unit: str) -> None:
        self._progress, self._unit, self._total = progress, unit, total
        self._id = progress.add_task(label, total=total, note="", amount="")

    def advance(self, amount: float = 1) -> None:
        self._progress.advance(self._id, amount)
        task = self._progress.tasks[0]
        if self._total and task.elapsed:
            rate = _per_second(task.completed / task.elapsed, self._unit)
            self._progress.update(self._id, amount=f"{human(task.completed, self._unit)}/{human(self._total, self._unit)} {rate}")

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

    def figures(self, figures: dict[str, Any]) -> None: ...

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

    def figures(self, figures: dict[str, Any]) -> None: ...

    @contextlib.contextmanager
    def task(self, label: str, total: float | None = None, unit: str = "") -> Iterator[Task]:
        yield _SilentTask()


class _SilentTask:
    def advance(self, amount: float = 1) -> None: ...

    def note(self, text: str) -> None: ...


def for_terminal() -> Voice:
    """rich on a terminal, plain lines elsewhere, and in an interpreter that has no rich."""
    if sys.stderr.isatty():
        with contextlib.suppress(ModuleNotFoundError):
            return RichVoice()
    return PlainVoice()


def tell(error: InterlockError, stream: TextIO | None = None) -> None:
    """One message for an error: what, where, expected, found, and what to do."""
    stream = stream or sys.stderr
    for line in [*error.lines(), f"hint: {error.remedy}"]:
        stream.write(plain(line) + "\n")
    stream.flush()
