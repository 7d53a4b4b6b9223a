"""What the loop's steps look like from outside: figures about once a second, a sentence after each evaluation.

Here: rates, what is told when. Not here: the record (told.py), what is measured (evaluation.py), how it is shown (pipeline/reports).
Nothing here touches the training or its log: what is told has times in it, what is kept has none.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from interlock.voice import Task, Voice
from pipeline.driver.stage import peak_rss
from pipeline.training.told import Line, Told, evaluation_text, losses_text, progress_text, sample_text

# A second is news enough, and some hundred bytes.
EVERY_S = 1.0


@dataclass
class Watcher:
    """Told of every step by the loop (loop.Told). `run`: `student` or a control's name, of `steps` steps; `after`: how many runs as long follow."""

    voice: Voice
    task: Task
    run: str
    steps: int
    after: int = 0
    clock: Callable[[], float] = time.monotonic
    _said: float = field(init=False)
    _since: tuple[int, float] | None = field(init=False, default=None)
    _tokens: int = field(init=False, default=0)
    _lines: list[Line] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self._said = self.clock()

    def __call__(self, line: dict[str, Any], tokens: int) -> None:
        """One step: its line of the log, and how many tokens it supervised."""
        now, step = self.clock(), msgspec.convert(line, Line)
        self._lines.append(step)
        if self._since is None:
            self._since = step.step, now
        else:
            self._tokens += tokens
        self.task.advance()
        evaluated = step.validation is not None
        if not evaluated and step.step < self.steps and now - self._said < EVERY_S:
            return
        told = self._told(step, now)
        self.voice.figures(msgspec.to_builtins(told))
        self.task.note(losses_text(self._lines))
        self._lines, self._said = [], now
        if evaluated:
            self.voice.step(f"{progress_text(told)}; {evaluation_text(step)}")
            for sample in step.samples:
                self.voice.step(f"sample {sample_text(sample)}")

    def _told(self, step: Line, now: float) -> Told:
        """The first step of a run warms caches up and tells nothing about the others: rates are of those after it."""
        assert self._since is not None
        done, passed = step.step - self._since[0], max(now - self._since[1], 1e-9)
        left = self.steps - step.step + self.after * self.steps
        return Told(
            run=self.run,
            steps=self.steps,
            lines=self._lines,
            tokens_per_s=round(self._tokens / passed, 1) if done else None,
            steps_per_s=round(done / passed, 3) if done else None,
            left_s=round(left * passed / done, 1) if done else None,
            memory_bytes=peak_rss(),
        )
