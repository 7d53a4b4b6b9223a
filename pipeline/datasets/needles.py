"""Task `needles`: one fact among many, at every depth of texts of several lengths, and the question for it.

Here: the texts. Not here: names (entities.py), scoring (eval).
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator

from interlock.errors import UsageError
from pipeline.datasets import entities
from pipeline.datasets.rows import Message, Row
from pipeline.datasets.tasks import Order, Task

MAX_LINES = 4000


def make(order: Order) -> Iterator[Row]:
    """Lengths in turn, and for each of them depths in turn. Raises UsageError."""
    numbers = order.random()
    depths = int(order.parameters["depths"])
    if not 1 <= depths <= 100:
        raise UsageError(f"`depths` is {depths}", remedy="give how many places of the fact are tried, from 1 to 100")
    turns = itertools.cycle(itertools.product(_lengths(order), range(depths)))
    return (_row(order, numbers, number, lines, depth, depths) for number, (lines, depth) in zip(range(order.rows), turns, strict=False))


def _row(order: Order, numbers: random.Random, number: int, lines: int, depth: int, depths: int) -> Row:
    """The needle stands where `depth` of `depths` begins, from the first line to the last."""
    people: list[str] = []
    while len(people) < lines:
        people = list(dict.fromkeys([*people, entities.name(order, numbers, 3)]))
    codes = [numbers.randrange(1000, 10_000) for _ in people]
    needle = round((lines - 1) * depth / (depths - 1)) if depths > 1 else lines // 2
    text = "\n".join(f"The number of {who} is {code}." for who, code in zip(people, codes, strict=True))
    asked = f"{text}\n\nWhat is the number of {people[needle]}?"
    metadata = {
        "stratum": f"{lines} lines",
        "depth": f"line {needle + 1}",
        "clusters": [people[needle]],
        "accepted": [[str(codes[needle])]],
        "long_context": {"lines": lines, "needle": needle + 1},
    }
    return Row(id=order.id(number), messages=(Message(role="user", content=asked),), answer=str(codes[needle]), metadata=metadata)


def _lengths(order: Order) -> list[int]:
    """Parameter `lines`, such as `8,32,128`. Raises UsageError."""
    text = str(order.parameters["lines"])
    found = [int(one) for one in text.split(",")] if re.fullmatch(r"\d{1,4}(,\d{1,4})*", text) else []
    if not found or not all(2 <= one <= MAX_LINES for one in found):
        raise UsageError(
            f"`lines` is `{text}`", remedy=f"give lengths in lines, such as 8,32,128, each from 2 to {MAX_LINES}; a line is some 12 tokens"
        )
    return found


SUMMARY = "one fact among many, at every depth of texts of several lengths"
TASK = Task("needles", SUMMARY, {"test": 120}, make, {"lines": "8,16,32,64", "depths": 5})
