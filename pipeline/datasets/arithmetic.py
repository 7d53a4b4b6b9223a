"""Task `arithmetic-chains`: a number, then additions (`a3`) and multiplications (`m4`), everything modulo another number.

Here: a row of a depth. Not here: which rows a split has (depths.py).
A step is three tokens: the operation, the number that it gives, `;`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial

from interlock.errors import UsageError
from pipeline.datasets.depths import drawn
from pipeline.datasets.rows import Row
from pipeline.datasets.tasks import Order, Task


def make(order: Order) -> Iterator[Row]:
    """Raises UsageError for a modulus out of range, whose numbers would be more than one token."""
    modulus = int(order.parameters["modulus"])
    if not 3 <= modulus <= 100:
        raise UsageError(f"`modulus` is {modulus}", remedy="give a number from 3 to 100")
    return drawn(order, lambda depth: modulus * (2 * modulus - 3) ** depth, partial(_row, modulus))


SUMMARY = "additions and multiplications, one after another, modulo a small number; a row's depth is how many"
TASK = Task("arithmetic-chains", SUMMARY, {"train": 64_000, "validation": 1_200, "test": 6_000}, make, {"depths": "1..6", "modulus": 11})


def _row(modulus: int, numbers: random.Random, depth: int, name: str) -> Row:
    start = value = numbers.randrange(modulus)
    operations, steps = [], []
    for _ in range(depth):
        # Additions of 1 to m-1, multiplications by 2 to m-1: each changes something, and each is a word of its own.
        drawn = numbers.randrange(2 * modulus - 3)
        add, by = (True, drawn + 1) if drawn < modulus - 1 else (False, drawn - modulus + 3)
        value = (value + by if add else value * by) % modulus
        operations.append(f"{'a' if add else 'm'}{by}")
        steps.append(f" {operations[-1]} {value} ;")
    return Row(id=name, prompt=f"{start} {' '.join(operations)} =", steps=tuple(steps), answer=f" {value}", metadata={"depth": depth})
