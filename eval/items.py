"""An item: what a model is asked and what it should say.

Here: the record. Not here: reading datasets (pipeline/datasets), which items a suite asks (suites).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """`steps`: how many steps of reasoning lead to the answer."""

    id: str
    prompt: str
    answer: str
    steps: int


def sampled(items: Iterable[Item], most: int | None) -> list[Item]:
    """At most so many items, by id. Which they are is decided by a hash of the id: another order, or more items beside them, change nothing that does
    not crowd them out."""
    hashed = sorted(items, key=lambda item: hashlib.sha256(item.id.encode()).digest())
    return sorted(hashed[:most], key=lambda item: item.id)
