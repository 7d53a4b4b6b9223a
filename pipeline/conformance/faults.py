"""File systems that count, fail or kill: the object that makes every mutating call, with something before each.

Here: what happens at which call. Not here: the calls (interlock/calls.py), what runs on them (trial.py).
"""

from __future__ import annotations

import os
import signal
from typing import Any

from interlock.fs import Fs

MUTATING = ("mkdir", "write", "copy", "call", "symlink", "chmod", "fsync", "rename", "exchange", "unlink", "rmdir")


class Counting(Fs):
    """Counts the mutating calls."""

    calls = 0

    def before(self, path: object) -> None:
        """Called with the first path of each, ahead of it."""
        self.calls += 1

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in MUTATING:
            return found

        def announced(*args: Any) -> Any:
            self.before(args[0])
            return found(*args)

        return announced


class Killing(Counting):
    """Kills its own process before one call, as the out-of-memory killer does."""

    def __init__(self, point: int) -> None:
        self._point = point

    def before(self, path: object) -> None:
        super().before(path)
        if self.calls == self._point:
            os.kill(os.getpid(), signal.SIGKILL)


class Failing(Counting):
    """Fails one call with an errno; `lasting`, every call from then on."""

    def __init__(self, point: int, code: int, *, lasting: bool) -> None:
        self._point, self._code, self._lasting = point, code, lasting

    def before(self, path: object) -> None:
        super().before(path)
        if self.calls == self._point or (self._lasting and self.calls > self._point):
            raise OSError(self._code, os.strerror(self._code), str(path))
