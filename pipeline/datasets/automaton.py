"""Task `permutation-automaton`: eight states, sixteen operations, the state after k of them.

Here: the operations, and rows of each depth. Not here: writing them.
The operations are permutations that generate a group which is not solvable: no circuit of constant depth composes k of them (Barrington, 1989), so a
model of two layers needs k steps of reasoning, in text or in its hidden states.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Sequence

from interlock.errors import UsageError
from pipeline.datasets.rows import Row, likeness
from pipeline.datasets.tasks import Order, Task

STATES, OPERATIONS = 8, 16
MAX_DEPTH = 64


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
    """Rows of all depths in turn. Held-out splits have each prompt once and at most an eighth of the prompts of a depth; rows to train on are drawn
    from all others, and repeat where a depth has few."""
    depths = _depths(str(order.parameters["depths"]))
    numbers = order.random()
    held_out = order.split != "train"
    seen = set(order.taken)
    left = {depth: STATES * OPERATIONS**depth // 8 for depth in depths}
    if held_out and sum(left.values()) < order.rows:
        problem = f"split `{order.split}` of {order.rows} rows needs as many prompts, and gets an eighth of those there are: {sum(left.values())}"
        raise UsageError(problem, remedy="ask for fewer rows, or for greater depths")
    turns = itertools.cycle(depths)
    for number in range(order.rows):
        depth = next(depth for depth in turns if not held_out or left[depth])
        while (key := likeness(_prompt(*(drawn := _draw(numbers, depth))))) in seen:
            continue
        if held_out:
            seen.add(key)
            left[depth] -= 1
        yield _row(order.id(number), *drawn)


SUMMARY = "the state of an automaton after k operations; a row's depth is k"
TASK = Task("permutation-automaton", SUMMARY, {"train": 64_000, "validation": 1_200, "test": 6_000}, make, {"depths": "1..6"})


def _depths(text: str) -> tuple[int, ...]:
    found = re.fullmatch(r"(\d{1,2})\.\.(\d{1,2})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]) <= MAX_DEPTH:
        raise UsageError(f"`depths` is `{text}`", remedy=f"give the least and the greatest number of operations, such as 1..6, at most {MAX_DEPTH}")
    return tuple(range(int(found[1]), int(found[2]) + 1))


def _draw(numbers: random.Random, depth: int) -> tuple[int, tuple[int, ...]]:
    return numbers.randrange(STATES), tuple(numbers.randrange(OPERATIONS) for _ in range(depth))


def _prompt(start: int, operations: Sequence[int]) -> str:
    return f"s{start} {' '.join(f'o{operation}' for operation in operations)} ="


def _row(name: str, start: int, operations: Sequence[int]) -> Row:
    state, steps = start, []
    for operation in operations:
        state = PERMUTATIONS[operation][state]
        steps.append(f" o{operation} s{state} ;")
    return Row(id=name, prompt=_prompt(start, operations), steps=tuple(steps), answer=f" s{state}", metadata={"depth": len(operations)})
