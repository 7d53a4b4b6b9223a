"""What files were when they were last read, so that an unchanged one is not read again.

Here: one table from a path to what was computed from the file's bytes, valid while size, times and inode stay. Not here: what is computed.
A file that changed within the tick of its last look could change again unseen (the "racy" case of git's index): its value is given and not kept.
Losing the table costs time and nothing else.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from interlock.errors import StageFailed
from pipeline.driver import records

# Longer than one tick of the clock that stamps files: at most 10 ms in a kernel, 2 s where whole seconds are stored (FAT, some network shares).
TICK_NS, COARSE_TICK_NS = 50_000_000, 2_000_000_000
# Values of another form are not read as ours.
FORM = 1

Stat = tuple[int, int, int, int]


def stat_of(path: str | Path) -> Stat:
    """What changes when a file does, without reading it. Raises OSError."""
    status = os.lstat(path)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def settled(stat: Stat, now_ns: int) -> bool:
    """Whether a file with this `stat` cannot have changed after `now_ns` without its times telling."""
    last = max(stat[1], stat[2])
    return last + (COARSE_TICK_NS if last % 1_000_000_000 == 0 else TICK_NS) < now_ns


class Index:
    """The table, in memory; `save` writes it when something was added. Without a file it lasts as long as the process."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._changed = False
        self._files: dict[str, list[Any]] = {}
        document = records.load(file) if file else {}
        if document.get("form") == FORM:  # else none yet, or torn, or another interlock's: everything is read once more
            self._files = document["files"]

    def value(self, path: Path, what: str, read: Callable[[Path], Any]) -> Any:
        """`read(path)`, or what it gave while the file was the same. `what` names the computation. Raises OSError."""
        name = f"{what} {path}"
        now = time.time_ns()
        stat = stat_of(path)
        known = self._files.get(name)
        if known is not None and known[0] == list(stat):
            return known[1]
        found = read(path)
        if settled(stat, now):
            self._files[name] = [list(stat), found]
            self._changed = True
        return found

    def save(self) -> None:
        """Keep what was added. A place that cannot be written costs the next run its time."""
        if not self._changed or self._file is None:
            return
        try:
            records.save(self._file, {"form": FORM, "files": self._files})
        except StageFailed:
            return
        self._changed = False
