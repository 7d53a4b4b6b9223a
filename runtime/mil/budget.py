"""How much memory a program may use: less than the machine has free, so that a hostile or mistaken one is refused and never killed.

Here: the limit, and the check before something of a size that a file decides is made. Not here: counting what a run holds (execute.py).
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

# Of what is free at the first question; the rest is for temporary values of single operations.
SHARE = 0.5
# No value needs more bytes per element while it is computed.
BYTES_PER_ELEMENT = 8
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
