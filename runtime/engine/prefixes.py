"""Prompts that begin as an earlier one did: finished caches, kept while there is room, and the longest beginning that a new prompt shares with one.

Here: what is kept, found and forgotten. Not here: which sequence runs when (scheduler.py), what a cache holds (runtime/backends).
A cache that can be copied gives its beginning away and stays; any other is handed over and cut back. What was computed for a prompt in other pieces
differs in the last bits of its sums, as it does in every server that reuses prefixes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from runtime.backends.protocol import CacheT, Copyable

Ids = NDArray[np.int64]
# Fewer shared ids than a template puts before the first word are cheaper computed than looked after.
LEAST = 16


def common(a: Sequence[int] | Ids, b: Sequence[int] | Ids) -> int:
    """How many ids from the start on are the same."""
    length = min(len(a), len(b))
    differs = np.asarray(a[:length], np.int64) != np.asarray(b[:length], np.int64)
    return int(differs.argmax()) if differs.any() else length


@dataclass(frozen=True)
class _Kept(Generic[CacheT]):
    """A cache and the ids that are in it, one for each position."""

    ids: Ids
    cache: CacheT


class Prefixes(Generic[CacheT]):
    """Kept caches, least recently used first. For one thread."""

    def __init__(self, limit_bytes: int) -> None:
        """limit_bytes: of all kept caches together; 0 keeps none."""
        self._limit = limit_bytes
        self._kept: list[_Kept[CacheT]] = []

    @property
    def size_bytes(self) -> int:
        return sum(kept.cache.size_bytes for kept in self._kept)

    def longest(self, ids: Sequence[int]) -> int:
        """The most ids from the start on that a kept cache has."""
        return max((common(kept.ids, ids) for kept in self._kept), default=0)

    def take(self, ids: Sequence[int]) -> CacheT | None:
        """A cache whose inputs are the beginning of `ids`, as long as any, and never all: a step is asked after the last. None where too little is
        shared."""
        best = max(self._kept, key=lambda kept: common(kept.ids, ids), default=None)
        shared = min(common(best.ids, ids), len(ids) - 1) if best else 0
        if best is None or shared < LEAST:
            return None
        self._forget(best)
        if shared < len(best.ids) and isinstance(best.cache, Copyable):
            self._kept.append(best)  # used just now
            return best.cache.copy(shared)
        best.cache.rewind(shared)
        return best.cache

    def keep(self, ids: Sequence[int], cache: CacheT) -> None:
        """What a finished sequence leaves: `ids` are its first inputs, and what comes after them is cut off."""
        cache.rewind(len(ids))
        if len(ids) < LEAST or cache.size_bytes > self._limit or any(common(kept.ids, ids) == len(ids) for kept in self._kept):
            return
        for kept in [kept for kept in self._kept if common(kept.ids, ids) == len(kept.ids)]:
            self._forget(kept)
        self._kept.append(_Kept(np.asarray(ids, np.int64), cache))
        while self.size_bytes > self._limit:
            self._forget(self._kept[0])

    def _forget(self, gone: _Kept[CacheT]) -> None:
        self._kept = [kept for kept in self._kept if kept is not gone]
