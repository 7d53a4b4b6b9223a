"""Made-up names, and which split each name and each template belongs to.

Here: names of towns, people and things by syllables; the partition. Not here: sentences (toolcalls.py, contextual.py).
A name belongs to one split by its digest, whatever is asked for: a test knows no name that training has seen, for any number of rows.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

from pipeline.datasets.tasks import Order

_ONSETS = ("b", "br", "d", "dr", "f", "g", "gl", "h", "k", "l", "m", "n", "p", "r", "s", "st", "t", "tr", "v", "z")
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ea", "ou")
_CODAS = ("", "", "l", "m", "n", "r", "s", "th")

T = TypeVar("T")


def split_of(seed: int, name: str) -> str:
    """The split that a name belongs to: of sixteen, one goes to validation, three to test, the rest to train."""
    sixteenth = hashlib.sha256(f"{seed} {name}".encode()).digest()[0] % 16
    return "validation" if sixteenth == 0 else "test" if sixteenth < 4 else "train"


def name(order: Order, numbers: random.Random, syllables: int = 2) -> str:
    """A new name that belongs to this split: 1,280 syllables, so 1.6 million names of two."""
    while True:
        made = "".join(numbers.choice(_ONSETS) + numbers.choice(_VOWELS) + numbers.choice(_CODAS) for _ in range(syllables)).capitalize()
        if split_of(order.seed, made) == order.split:
            return made


def template(order: Order, numbers: random.Random, templates: Sequence[T]) -> tuple[int, T]:
    """A template of this split with its number: the first belongs to validation, the next two to test, all others to train."""
    mine = {"validation": range(1), "test": range(1, 3)}.get(order.split, range(3, len(templates)))
    number = numbers.choice(mine)
    return number, templates[number]
