"""Rows whose difficulty is a number of steps: every depth in turn, held-out prompts apart from all others.

Here: the range of depths, and how rows of a split are drawn. Not here: what a row of a depth is (automaton.py, arithmetic.py).
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Iterator

from interlock.errors import UsageError
from pipeline.datasets.rows import Row, likeness
from pipeline.datasets.tasks import Order

MAX_DEPTH = 64


def drawn(order: Order, prompts: Callable[[int], int], draw: Callable[[random.Random, int, str], Row]) -> Iterator[Row]:
    """Rows of all depths in turn. Held-out splits have each prompt once and at most an eighth of the prompts of a depth; rows to train on are drawn
    from all others, and repeat where a depth has few.

    prompts: how many there are of a depth; draw: a row of a depth, with this id. Raises UsageError where a held-out split gets too few.
    """
    depths = depths_of(order)
    numbers = order.random()
    held_out = order.split != "train"
    seen = set(order.taken)
    left = {depth: prompts(depth) // 8 for depth in depths}
    if held_out and sum(left.values()) < order.rows:
        problem = f"split `{order.split}` of {order.rows} rows needs as many prompts, and gets an eighth of those there are: {sum(left.values())}"
        raise UsageError(problem, remedy="ask for fewer rows, or for greater depths")
    turns = itertools.cycle(depths)
    for number in range(order.rows):
        depth = next(depth for depth in turns if not held_out or left[depth])
        while (key := likeness((row := draw(numbers, depth, order.id(number))).given)) in seen:
            continue
        if held_out:
            seen.add(key)
            left[depth] -= 1
        yield row


def depths_of(order: Order) -> tuple[int, ...]:
    """Parameter `depths`, such as `1..6`. Raises UsageError."""
    text = str(order.parameters["depths"])
    found = re.fullmatch(r"(\d{1,2})\.\.(\d{1,2})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]) <= MAX_DEPTH:
        raise UsageError(f"`depths` is `{text}`", remedy=f"give the least and the greatest number of steps, such as 1..6, at most {MAX_DEPTH}")
    return tuple(range(int(found[1]), int(found[2]) + 1))
