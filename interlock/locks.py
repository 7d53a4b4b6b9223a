"""Kernel locks on lock files: waited for, with the holder's name; a killed holder leaves nothing to unlock.

Here: `Lock`, by flock(2) on an open descriptor of its file. Not here: which things have a lock (driver/store.py), the lock on a workspace (fs.py).
A cleaner may remove a lock file while it holds it: who waited for the removed file takes the new one under the same name.
The lock belongs to the open file, not to the process: two `Lock`s of one process exclude each other, and a child that only forks shares it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from interlock import fs
from interlock.errors import StageFailed

FIRST_WORD_S = 2.0
NEXT_WORD_S = 10.0
_HOLDER = re.compile(rb"([0-9]{1,10}) ([\x21-\x7e]{1,255})\n")


class Lock:
    """The lock of one file, exclusive or `shared` with other shared holders. Not yet taken when made; may be taken again after `release`.

    `attempt` and `held` create the file and its folder where they are missing. They raise StageFailed where that cannot be done, where the path is
    not a regular file, and where the file system has no locks: nothing ever runs unlocked in silence.
    """

    def __init__(self, path: Path, *, shared: bool = False) -> None:
        self.path = path
        self._operation = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
        self._descriptor: int | None = None

    def attempt(self) -> bool:
        """Take the lock if nobody is in the way; whether it was taken."""
        if self._descriptor is not None:
            raise RuntimeError(f"{self.path} is held by this very object")
        with fs.named_failures(self.path):
            while True:
                descriptor = self._open()
                taken = False
                try:
                    taken = self._flock(descriptor)
                    if taken and not self._is_current(descriptor):
                        taken = False
                        continue  # a cleaner removed it between open and flock
                    if not taken:
                        return False
                    self._sign(descriptor)
                    self._descriptor = descriptor
                    return True
                finally:
                    if not taken:
                        os.close(descriptor)

    def release(self) -> None:
        """Give the lock back; nothing happens when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @contextlib.contextmanager
    def held(self, waiting: Callable[[str], None] | None = None, poll_s: float = 0.05) -> Iterator[None]:
        """Hold the lock for a block, waited for as long as it takes. `waiting` is told who holds it, after 2 s and then every 10 s."""
        started = time.monotonic()
        tell_at = FIRST_WORD_S
        while not self.attempt():
            waited = time.monotonic() - started
            if waiting and waited >= tell_at:
                waiting(f"waiting for {self.holder()}, which holds `{self.path}` ({waited:.0f} s)")
                tell_at = waited + NEXT_WORD_S
            time.sleep(poll_s)
        try:
            yield
        finally:
            self.release()

    def holder(self) -> str:
        """The process that last took the lock, for a message. It may have ended where others share the lock."""
        with contextlib.suppress(OSError):
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                found = _HOLDER.fullmatch(os.read(descriptor, 512))
            finally:
                os.close(descriptor)
            if found:
                host = found[2].decode()
                return f"process {int(found[1])}" + ("" if host == socket.gethostname() else f" on {host}")
        return "another process"

    def _open(self) -> int:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # O_NONBLOCK: a FIFO or a device in its place must not stop us before it is recognised.
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise StageFailed(f"`{self.path}` is a pipe or a device and cannot be a lock file", remedy="remove it, then run the same command again")

    def _flock(self, descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, self._operation)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            problem = f"the file system of `{self.path}` has no file locks ({error.strerror}), and without them two builds could mix"
            raise StageFailed(problem, remedy="choose a folder on a local file system, or mount this one with locks") from error
        return True

    def _is_current(self, descriptor: int) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(descriptor), self.path.lstat())
        return False

    def _sign(self, descriptor: int) -> None:
        # For messages only: a full disk must not make a lock fail that the kernel has given.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
