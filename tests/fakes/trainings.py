"""Small trainings: rows of the automaton, a student of a few thousand parameters, settings that are over in a second."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from fakes.students import tiny_arch

from interlock.contracts.checkpoint import ModelArch
from pipeline.training.examples import Example, Special
from pipeline.training.loop import Data
from pipeline.training.model import Trained
from pipeline.training.settings import Settings
from runtime.student.checkpoint import random_student

SPECIAL = Special(pad=0, bot=1, eot=2)
END = 3
LATENT = {"step_tokens": 2}


def rows(count: int, *, seed: int = 0, steps: Sequence[int] = (1, 2, 3), lengths: Sequence[int] = (4,)) -> list[Example]:
    """Random ids: a prompt of one of `lengths`, so many steps of two tokens, an answer of one and its end."""
    draw = random.Random(seed)

    def ids(number: int) -> tuple[int, ...]:
        return tuple(draw.randrange(4, 101) for _ in range(number))

    return [
        Example(f"row-{number}", ids(draw.choice(lengths)), tuple(ids(2) for _ in range(steps[number % len(steps)])), (*ids(1), END))
        for number in range(count)
    ]


def settings(**changes: Any) -> Settings:
    fields: dict[str, Any] = {"steps": 12, "batch": 4, "warmup": 2, "evaluate_every": 5, "save_every": 3, "latent": LATENT}
    return Settings.model_validate({**fields, **changes}, strict=False)


def trained(chosen: Settings, *, control: str | None = None, seed: int = 1, **arch: Any) -> Trained:
    """A student with a halt head of two layers, width 48."""
    student = random_student(tiny_arch(n_layers=2, max_position=128, **arch), ModelArch(use_halt_head=True), seed)
    return Trained(student, chosen, SPECIAL, control=control)


def data(*, seed: int = 0, lengths: Sequence[int] = (4,)) -> Data:
    return Data(rows(60, seed=seed, lengths=lengths), rows(12, seed=seed + 1, lengths=lengths), f"rows {seed}")
