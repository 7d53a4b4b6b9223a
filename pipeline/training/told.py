"""What a training tells of itself while it runs: one record, from the stage's process to whoever shows or records it.

Here: the record, and reading it back. Not here: telling it (watching.py), showing it (pipeline/reports/training_live.py), recording it
(pipeline/reports/tensorboard.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

# The log in a trained checkpoint: one Line in JSON for each step.
LOG = "training_log.jsonl"


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What the student said to a row of the validation split, in one way of answering, and whether that ends in the row's answer, `wanted`."""

    id: str
    way: str
    said: str
    wanted: str
    right: bool


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One step, as a line of the training's log. `replaced`: how many of the batch's steps were slots; `losses`: the mean of each over what it
    supervised, in nats; `total`: their weighted sum; `norm`: the gradient's before clipping. After an evaluation also: `validation`, nats per token
    of text; `by_slots`: the same by number of steps in slots; `accuracy`: the share of right answers by way of answering and number of steps, and of
    pairs that the student decides rightly under `preferred`."""

    step: int
    lr: float
    replaced: int
    total: float
    norm: float
    losses: dict[str, float]
    validation: float | None = None
    by_slots: dict[str, float] = {}
    accuracy: dict[str, dict[str, float]] = {}
    samples: list[Sample] = []


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """`run`: `student`, or the name of a control; `lines`: every step since the last record, at least one. Rates are of this run so far; `left_s` is
    until it and the runs after it have done all their steps, None after one step. `memory_bytes`: the most that the process has had."""

    run: str
    steps: int
    lines: list[Line]
    tokens_per_s: float | None
    steps_per_s: float | None
    left_s: float | None
    memory_bytes: int

    @property
    def now(self) -> Line:
        return self.lines[-1]


def told(figures: dict[str, Any]) -> Told | None:
    """The record that figures are, None where they are another's."""
    try:
        found = msgspec.convert(figures, Told, strict=True)
    except msgspec.ValidationError:
        return None
    return found if found.lines else None


def losses_of(lines: Sequence[Line]) -> dict[str, float]:
    """`loss` and its parts, each the mean over the steps that had it: batches of one kind come by chance, and one alone says little."""
    found: dict[str, list[float]] = {}
    for line in lines:
        for name, loss in {"loss": line.total, **line.losses}.items():
            found.setdefault(name, []).append(loss)
    return {name: sum(some) / len(some) for name, some in found.items()}


def losses_text(lines: Sequence[Line]) -> str:
    """`loss 1.234 (ce 1.012, step 0.444)`."""
    loss, *parts = (f"{name} {value:.3f}" for name, value in losses_of(lines).items())
    return f"{loss} ({', '.join(parts)})" if parts else loss


def duration(seconds: float) -> str:
    """`42 s`, `12 min`, `3 h 05 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def sample_text(sample: Sample) -> str:
    """`0-test-3, text: " o5 s4 ; s1" is right`."""
    verdict = "is right" if sample.right else f"is not {sample.wanted!r}"
    return f"{sample.id}, {sample.way}: {sample.said!r} {verdict}"


def progress_text(told: Told) -> str:
    """Where a training is, in one line."""
    parts = [f"step {told.now.step} of {told.steps}", losses_text(told.lines)]
    if told.tokens_per_s is not None and told.left_s is not None:
        parts += [f"{told.tokens_per_s:.0f} tokens/s", f"{duration(told.left_s)} left"]
    return ", ".join(parts) if told.run == "student" else f"control {told.run}: {', '.join(parts)}"


def evaluation_text(line: Line) -> str:
    """What the validation split said, in one line: losses by number of slots, accuracies by number of steps."""
    slots = " ".join(f"{loss:.3f}" for loss in line.by_slots.values())
    parts = [f"validation loss {line.validation:.3f}" + (f" (by slots {slots})" if len(line.by_slots) > 1 else "")]
    parts += [f"{way} right {' '.join(f'{share:.2f}' for share in by_depth.values())}" for way, by_depth in line.accuracy.items()]
    return "; ".join(parts)
