"""What a generator of rows is, and what may be asked of one.

Here: the record of a task, its parameters and their types. Not here: the generators (one module each; generators.py has the table), writing rows
(pipeline/stages/data.py).
A generator needs no package but Python: its random numbers are those of `random.Random`, whose sequences Python keeps for one seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from interlock.errors import UsageError
from pipeline.datasets.rows import Row
from pipeline.datasets.tools import Tool

Value = bool | int | float | str

SPLITS = ("test", "validation", "train")
"""In the order in which they are made: what is held out comes first, and does not change with the number of rows to train on."""


@dataclass(frozen=True)
class Order:
    """What one split is made of: `parameters` are the task's own; `taken` are the likenesses of prompts that splits before this one have."""

    seed: int
    split: str
    rows: int
    parameters: Mapping[str, Value]
    taken: frozenset[bytes]

    def random(self) -> random.Random:
        """The numbers of this split: others come for another seed and another split."""
        return random.Random(f"{self.seed} {self.split}")  # noqa: S311 - seeded on purpose

    def id(self, number: int) -> str:
        return f"{self.seed}-{self.split}-{number}"


@dataclass(frozen=True)
class Task:
    """A seeded generator. `rows` and `parameters` have the defaults of all that may be set; `make` gives the rows of one split.

    `make` raises UsageError for a parameter out of range, and where there are fewer rows than are asked for.
    """

    name: str
    summary: str
    rows: Mapping[str, int]
    make: Callable[[Order], Iterator[Row]]
    parameters: Mapping[str, Value] = field(default_factory=dict)
    registry: Mapping[str, Tool] | None = None
    """The tools that rows call, where they do: the stage writes them, and a fixture for each call of a dialogue."""
    licence: str = "CC0-1.0"


def settled(chosen: Task, given: Mapping[str, Value]) -> dict[str, Value]:
    """Every parameter of a task and the rows of each split, defaults where nothing is given. Raises UsageError for an unknown name, another type."""
    defaults: dict[str, Value] = {**chosen.rows, **chosen.parameters}
    for name, value in given.items():
        if name not in defaults:
            raise UsageError(f"task `{chosen.name}` has no parameter `{name}`", remedy=f"it has {', '.join(defaults)}")
        wanted = type(defaults[name])
        if type(value) is not wanted:
            raise UsageError(f"`{name}` of task `{chosen.name}` is `{value}`", remedy=f"give a value like `{defaults[name]}`, which is the default")
    settled = {**defaults, **given}
    for name in chosen.rows:
        if not 0 <= int(settled[name]) <= 10_000_000:
            raise UsageError(f"split `{name}` cannot have {settled[name]} rows", remedy="give a number from 0 (no such split) to 10,000,000")
    if not any(settled[name] for name in chosen.rows):
        raise UsageError("every split has 0 rows", remedy=f"give at least one of {', '.join(chosen.rows)} some")
    return settled
