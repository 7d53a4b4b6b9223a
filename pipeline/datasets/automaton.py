"""Task `permutation-automaton`: eight states, sixteen operations, the state after k of them.

Here: the operations, and a row of a depth. Not here: which rows a split has (depths.py).
The operations are permutations that generate a group which is not solvable: no circuit of constant depth composes k of them (Barrington, 1989), so a
model of two layers needs k steps of reasoning, in text or in its hidden states.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from pipeline.datasets.depths import depths_of, drawn
from pipeline.datasets.rows import Row
from pipeline.datasets.tasks import Order, Task

STATES, OPERATIONS = 8, 16


def _permutations() -> tuple[tuple[int, ...], ...]:
    """Sixteen shuffles by one generator: the same in every dataset, whatever its seed."""
    numbers = random.Random(1234)  # noqa: S311 - a constant of the task
    found = []
    for _ in range(OPERATIONS):
        states = list(range(STATES))
        numbers.shuffle(states)
        found.append(tuple(states))
    return tuple(found)


PERMUTATIONS = _permutations()
"""PERMUTATIONS[o][s] is the state that operation o makes of state s."""


def make(order: Order) -> Iterator[Row]:
    width = max(depths_of(order))
    return drawn(order, lambda depth: STATES * OPERATIONS**depth, lambda numbers, depth, name: _row(numbers, depth, name, width))


SUMMARY = "the state of an automaton after k operations; a row's depth is k"
TASK = Task("permutation-automaton", SUMMARY, {"train": 64_000, "validation": 1_200, "test": 6_000}, make, {"depths": "1..6"})


def _row(numbers: random.Random, depth: int, name: str, width: int) -> Row:
    """All prompts have room for `width` operations: so slot i is as far from operation i at every depth, and two layers find it."""
    start = state = numbers.randrange(STATES)
    operations = [numbers.randrange(OPERATIONS) for _ in range(depth)]
    steps = []
    for operation in operations:
        state = PERMUTATIONS[operation][state]
        steps.append(f" o{operation} s{state} ;")
    prompt = f"s{start} {' '.join(f'o{operation}' for operation in operations)}{' .' * (width - depth)} ="
    return Row(id=name, prompt=prompt, steps=tuple(steps), answer=f" s{state}", metadata={"depth": depth})
