"""File systems that watch, fail or kill: subclasses of the one object that makes every mutating call."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Any

from interlock.fs import Fs

MUTATING = ("mkdir", "write", "copy", "call", "symlink", "chmod", "fsync", "rename", "exchange", "unlink", "rmdir")


class Watching(Fs):
    """Calls `before(name, args)` ahead of every mutating call, and `after(name, args)` when it has succeeded."""

    def before(self, name: str, args: tuple[Any, ...]) -> None:
        pass

    def after(self, name: str, args: tuple[Any, ...]) -> None:
        pass

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in MUTATING:
            return found

        def announced(*args: Any) -> Any:
            self.before(name, args)
            result = found(*args)
            self.after(name, args)
            return result

        return announced


class RecordingFs(Watching):
    """Remembers every mutating call and its first path."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Path]] = []

    def before(self, name: str, args: tuple[Any, ...]) -> None:
        self.calls.append((name, next(arg for arg in args if isinstance(arg, Path))))


class KillingFs(Watching):
    """Kills its own process, as a power cut or the out-of-memory killer does, before the n-th mutating call."""

    def __init__(self, n: int) -> None:
        self.left = n

    def before(self, name: str, args: tuple[Any, ...]) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class FailingFs(Watching):
    """Fails the n-th mutating call with an errno, once."""

    def __init__(self, n: int, code: int) -> None:
        self.left, self.code = n, code

    def before(self, name: str, args: tuple[Any, ...]) -> None:
        self.left -= 1
        if self.left == 0:
            raise OSError(self.code, os.strerror(self.code), str(args[0]))


class WithoutExchange(Fs):
    """A file system that cannot exchange two paths, as NFS, FAT and many FUSE ones."""

    def exchange(self, one: Path, other: Path) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(other))


class LowerLayer(Fs):
    """An overlay on whose lower layer some directories lie: they can be emptied, but neither renamed nor exchanged."""

    lower: tuple[Path, ...] = ()

    def _refuse(self, *paths: Path) -> None:
        if any(path in self.lower and path.is_dir() and not path.is_symlink() for path in paths):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(paths[-1]))

    def exchange(self, one: Path, other: Path) -> None:
        self._refuse(one, other)
        super().exchange(one, other)

    def rename(self, source: Path, target: Path) -> None:
        self._refuse(source)
        super().rename(source, target)


class KillingWithoutExchange(KillingFs, WithoutExchange):
    """Kills its own process on a file system without exchange."""


class KillingLowerLayer(KillingFs, LowerLayer):
    """Kills its own process on an overlay."""


class FailingWithoutExchange(FailingFs, WithoutExchange):
    """Fails one call on a file system without exchange."""


class RecordingWithoutExchange(RecordingFs, WithoutExchange):
    """Remembers every call on a file system without exchange."""


class RecordingLowerLayer(RecordingFs, LowerLayer):
    """Remembers every call on an overlay."""
