"""The order in which a training sees its rows: a pure function of seed and step, so that a resumed run needs no state of a loader.

Here: epochs, batches of rows that go together, the share of a rank. Not here: ids and padding (examples.py).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from pipeline.training.examples import Example


@dataclass(frozen=True)
class Batches:
    """Batches of `size` rows. A batch holds rows with equally many steps (a span has one number of slots for a batch), and of similar length, as far
    as that can be had without an order: an epoch is shuffled, cut into stretches of 16 batches, and each stretch sorted by length. What is left of an
    epoch and fills no batch waits for the next."""

    rows: Sequence[Example]
    size: int
    seed: int
    groups: dict[int, list[int]] = field(init=False)

    def __post_init__(self) -> None:
        groups: dict[int, list[int]] = {}
        for number, row in enumerate(self.rows):
            groups.setdefault(len(row.steps), []).append(number)
        object.__setattr__(self, "groups", groups)

    @property
    def per_epoch(self) -> int:
        """How many batches one pass over the rows has, at least 1."""
        return max(1, sum(len(group) // self.size for group in self.groups.values()))

    def at(self, step: int) -> list[Example]:
        """The batch of optimizer step `step`, from 0."""
        epoch, place = divmod(step, self.per_epoch)
        return [self.rows[number] for number in _epoch(self, epoch)[place]]

    def chance(self, step: int) -> random.Random:
        """The source of everything else that is drawn for that batch."""
        return random.Random(f"{self.seed}:batch:{step}")  # noqa: S311 - seeded on purpose

    def __hash__(self) -> int:
        return id(self)


@lru_cache(maxsize=2)
def _epoch(batches: Batches, epoch: int) -> list[list[int]]:
    draw = random.Random(f"{batches.seed}:epoch:{epoch}")  # noqa: S311 - seeded on purpose
    made: list[list[int]] = []
    for _, group in sorted(batches.groups.items()):
        order = draw.sample(group, len(group))
        stretch = 16 * batches.size
        for start in range(0, len(order), stretch):
            part = sorted(order[start : start + stretch], key=lambda number: _length(batches.rows[number]))
            made += [part[i : i + batches.size] for i in range(0, len(part), batches.size)]
    whole = [batch for batch in made if len(batch) == batches.size]
    if not whole:  # fewer rows than a batch: all of one kind together
        whole = [max(made, key=len)]
    draw.shuffle(whole)
    return whole


def _length(row: Example) -> int:
    return len(row.prompt) + len(row.tail(0))


def shares(batch: Sequence[Example], micro: int, rank: int = 0, ranks: int = 1) -> list[list[Example]]:
    """The micro batches of one rank: every `ranks`-th row, `micro` of them at a time."""
    own = list(batch[rank::ranks])
    return [own[start : start + micro] for start in range(0, len(own), micro)]
