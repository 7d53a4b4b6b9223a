"""How much memory a program may use: less than the machine has free, so that a hostile or mistaken one is refused and never killed.

Here: the limit, the check before something of a size that a file decides is made, and counting what a run makes. Imports no torch.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

# Of what is free at the first question; the rest is for temporary values of single operations.
SHARE = 0.5
# No value needs more bytes per element while it is computed.
BYTES_PER_ELEMENT = 8
# Operations that all blocks of a run may do together: a minute or two. The loops of converted models do thousands.
MAX_STEPS = 10_000_000
_GROUP = Path("/sys/fs/cgroup")


class TooLarge(ValueError):
    """A result that would not fit. The executor reports it as any operand that does not fit the operation."""


@lru_cache(maxsize=1)
def limit_bytes() -> int:
    """Bytes that all values of a run may take together: half of what the machine, or the container around the process, has free."""
    return int(min(_free(), _free_in_group()) * SHARE)


def fits(sizes: Sequence[int | None]) -> bool:
    """Whether a tensor of these sizes takes less than the limit; an unknown size counts as one."""
    return math.prod(1 if size is None else size for size in sizes) * BYTES_PER_ELEMENT <= limit_bytes()


def affordable(*sizes: int) -> list[int]:
    """The sizes of a tensor that may be made. Raises TooLarge if it alone would take more than the limit, ValueError for a size below zero."""
    if min(sizes, default=0) < 0:
        raise ValueError(f"a tensor of {list(sizes)[:9]}")
    if not fits(sizes):
        raise TooLarge(f"{list(sizes)[:9]} elements, more than {limit_bytes() // BYTES_PER_ELEMENT} fit into the memory that is free")
    return list(sizes)


def _free() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    except OSError:
        pass
    # not Linux: half of what is built in is a fair guess of what is free
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _free_in_group() -> float:
    """What the control group still grants; infinite where there is none."""
    try:
        return int((_GROUP / "memory.max").read_text()) - int((_GROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return math.inf


class Meter:
    """What one run has done and made since it was last looked at. kept: tensors that were there before and do not count."""

    def __init__(self, kept: Iterable[object]) -> None:
        self._kept = kept
        self._steps = self._made = 0
        self._often = limit_bytes() // 8

    def entered(self, steps: int) -> None:
        """Before a block runs. Raises TooLarge once loops have done too much."""
        self._steps += steps
        if self._steps > MAX_STEPS:
            raise TooLarge(f"more than {MAX_STEPS} operations in one run")

    def made(self, size_bytes: int, values: Iterable[object]) -> None:
        """After an operation has made so many bytes; values: everything that the run holds. Raises TooLarge if that is more than the limit.

        Everything is counted only when an eighth of the limit has been made since.
        """
        self._made += size_bytes
        if self._made > self._often:
            self._made = 0
            kept = _storages(self._kept)
            held = sum(size for place, size in _storages(values).items() if place not in kept)
            if held > limit_bytes():
                raise TooLarge(f"values of {held} bytes together, more than the {limit_bytes()} that may be used of the memory that is free")


def _storages(values: Iterable[object]) -> dict[int, int]:
    """Bytes by place in memory: views share it."""
    found = {}
    for value in values:
        storage = getattr(value, "untyped_storage", None)
        if storage is not None:
            found[storage().data_ptr()] = storage().nbytes()
    return found
