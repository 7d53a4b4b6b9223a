"""Logs: lines and records appended to a file, never an artifact.

Here: one writer. Not here: what is worth a line.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from interlock import fs


class Log:
    """A file that is added to. A log that cannot be written is no reason to stop: it says so in `lost`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lost = False
        self._descriptor: int | None = None
        try:
            fs.make_parents(fs.Fs(), path.parent)
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
        except OSError:
            self.lost = True

    def line(self, text: str) -> None:
        """Add one line."""
        self.add(text.encode("utf-8", "backslashreplace") + b"\n")

    def add(self, data: bytes) -> None:
        """Add bytes as they are."""
        if self._descriptor is None:
            return
        try:
            os.write(self._descriptor, data)
        except OSError:
            self.lost = True

    def close(self) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None
