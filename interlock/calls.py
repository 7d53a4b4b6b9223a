"""Every call that changes a file system, behind one object, so that tests can kill, fail or record each one.

Here: `Fs`, removing a tree with it, and the kernel lock on a directory of ours. Not here: what is written, and in which order (fs.py).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO


class Fs:
    """Every call that changes a file system. Subclasses in tests count, fail or kill; nothing else in the project may call these functions itself."""

    def mkdir(self, path: Path) -> None:
        path.mkdir(mode=0o755)

    def write(self, path: Path, data: bytes) -> None:
        """Create `path` with `data`; it must not exist."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)

    def copy(self, source: Path, target: Path) -> None:
        """Copy the bytes of a regular file; the kernel shares blocks where the file system can (copy_file_range does on XFS and btrfs)."""
        with source.open("rb", buffering=0) as reader:
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
            with os.fdopen(descriptor, "wb") as writer:
                try:
                    while os.copy_file_range(reader.fileno(), writer.fileno(), 1 << 30):
                        pass
                except (OSError, AttributeError) as error:  # macOS has no such function, and Linux not between every two file systems
                    if isinstance(error, OSError) and error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM):
                        raise
                    shutil.copyfileobj(reader, writer, 1 << 22)

    def receive(self, stream: IO[bytes], path: Path) -> None:
        """Create `path` with all that `stream` gives; it must not exist."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        with os.fdopen(descriptor, "wb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)

    def append(self, path: Path, data: bytes) -> None:
        """Add `data` to the end of `path`, which is made where it is missing, and flush it to the disk."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o644)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)

    def call(self, writer: Callable[[Path], None], path: Path) -> None:
        """Let a library write `path` itself (torch.jit.save, a package's save)."""
        writer(path)

    def symlink(self, text: str, path: Path) -> None:
        """Make `path` a link that says `text`."""
        path.symlink_to(text)

    def chmod(self, path: Path, mode: int) -> None:
        path.chmod(mode)

    def fsync(self, path: Path) -> None:
        """Flush one file or directory to the disk."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        source.rename(target)

    def exchange(self, one: Path, other: Path) -> None:
        """Swap two paths of one file system atomically. Raises OSError where the file system, or the C library, cannot."""
        libc = ctypes.CDLL(None, use_errno=True)
        names = os.fsencode(one), os.fsencode(other)
        try:
            if sys.platform == "darwin":
                failed = libc.renamex_np(*names, 2)  # RENAME_SWAP, sys/stdio.h
            else:
                at_cwd = -100  # AT_FDCWD, fcntl.h
                failed = libc.renameat2(at_cwd, names[0], at_cwd, names[1], 2)  # RENAME_EXCHANGE, renameat2(2)
        except AttributeError:  # musl has no such function
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(other)) from None
        if failed:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(other))

    def unlink(self, path: Path) -> None:
        path.unlink()

    def rmdir(self, path: Path) -> None:
        path.rmdir()


def remove_tree(fs: Fs, path: Path) -> None:
    """Remove a directory of ours, links themselves and not what they name."""
    if path.is_symlink():
        fs.unlink(path)
        return
    for child in path.iterdir():
        if child.is_dir() and not child.is_symlink():
            remove_tree(fs, child)
        else:
            fs.unlink(child)
    fs.rmdir(path)


@contextlib.contextmanager
def claimed(directory: Path) -> Iterator[bool]:
    """Whether `directory` is nobody's, and then ours for the block: its builder, who holds a kernel lock on it, has ended."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # its builder may have removed it, and ended, since it was opened here
            still_there = os.path.samestat(os.fstat(descriptor), os.lstat(directory))
        except OSError:
            yield False
        else:
            yield still_there
    finally:
        os.close(descriptor)
