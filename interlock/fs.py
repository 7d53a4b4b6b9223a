"""The one module that writes artifacts: a workspace beside the output, and one `publish` that makes it visible whole or not at all.

Here: the order of every mutating call. Not here: the calls themselves (calls.py, injectable), links to generations (generations.py), what is written.
Order of publication: files are fsynced, then directories bottom-up, then one rename (or exchange, where something stands there), then the parent.
A directory cannot replace a non-empty one by rename, and two renames leave a moment without either: hence exchange
(renameat2 RENAME_EXCHANGE on Linux, renamex_np RENAME_SWAP on macOS), and where a file system cannot, a link to generations.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from interlock import generations
from interlock.calls import Fs, claimed, remove_tree
from interlock.errors import InterlockError, StageFailed, UsageError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = [
    "PARTIAL",
    "SCRATCH",
    "Fs",
    "Workspace",
    "check_replaceable",
    "make_parents",
    "named_failures",
    "publish",
    "remove_tree",
    "require_space",
    "save_file",
    "sweep",
    "workspace",
]

PARTIAL = ".partial-"
SCRATCH = ".scratch"


@dataclass(frozen=True)
class Workspace:
    """A directory beside the output in which a stage builds its artifact. Nothing in it is visible under the output's name before `publish`."""

    path: Path
    fs: Fs

    @property
    def scratch(self) -> Path:
        """A folder for files that do not belong to the artifact; it is removed before publication."""
        folder = self.path / SCRATCH
        if not folder.exists():
            self.fs.mkdir(folder)
        return folder

    def write(self, name: str, data: bytes) -> Path:
        """A file of the artifact, from bytes."""
        self.fs.write(self.path / name, data)
        return self.path / name

    def stream(self, name: str, chunks: Iterable[bytes]) -> Path:
        """A file of the artifact, from bytes as they come: rows that need not be in memory together."""
        self.fs.receive(io.BufferedReader(_Chunks(chunks), 1 << 20), self.path / name)
        return self.path / name

    def copy(self, source: Path, name: str) -> Path:
        """A file of the artifact, copied; a directory with everything in it."""
        self._copy(source, self.path / name)
        return self.path / name

    def _copy(self, source: Path, target: Path) -> None:
        if not source.is_dir():
            self.fs.copy(source, target)
            return
        self.fs.mkdir(target)
        for child in sorted(source.iterdir()):
            self._copy(child, target / child.name)

    def produce(self, name: str, writer: Callable[[Path], None]) -> Path:
        """A file or directory of the artifact, written by a library that insists on a path."""
        self.fs.call(writer, self.path / name)
        return self.path / name


class _Chunks(io.RawIOBase):
    """Pieces of bytes as a stream to read."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        super().__init__()
        self._chunks, self._rest = iter(chunks), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        while not self._rest and (chunk := next(self._chunks, None)) is not None:
            self._rest = chunk
        view = memoryview(buffer).cast("B")
        size = min(len(view), len(self._rest))
        view[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


_SPACE = {errno.ENOSPC: "no space is left", errno.EDQUOT: "the quota is used up", errno.EFBIG: "the limit on file size is reached"}
_ACCESS = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextlib.contextmanager
def named_failures(place: Path) -> Iterator[None]:
    """Turn what the operating system refuses during work for `place` into StageFailed with the reason and the remedy."""
    try:
        yield
    except OSError as error:
        raise _failure(error, place) from error
    except InterlockError:
        raise
    except Exception as error:
        # Libraries in C++ and Rust hide errno in a text, or say only that a write failed: a full disk is recognised by looking at it.
        told = _OS_ERROR.search(str(error))
        full = shutil.disk_usage(_existing(place)).free < 1 << 20
        if told or full:
            code = errno.ENOSPC if full else int(told[1]) if told else 0
            raise _failure(OSError(code, os.strerror(code)), place) from error
        if _FAILED_WRITE.search(str(error)):
            problem = f"a file for `{place}` could not be written: {str(error).splitlines()[0][:200]}"
            raise StageFailed(problem, remedy="look at the limits and the health of that file system, then run the same command again") from error
        raise


_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_FAILED_WRITE = re.compile(r"(?i)(file|stream\w*) write|failed writing|writing failed|unexpected pos")


def _failure(error: OSError, place: Path) -> StageFailed:
    where = error.filename or place
    if error.errno in _SPACE:
        free = shutil.disk_usage(_existing(place)).free
        problem = f"{_SPACE[error.errno]} on the file system of `{place.parent}` ({free / 1e6:.0f} MB free)"
        return StageFailed(problem, remedy="free some space or choose another --out, then run the same command again; nothing was published")
    if error.errno in _ACCESS:
        return StageFailed(f"`{where}` cannot be used ({error.strerror})", remedy="give yourself the right to it, or choose another --out")
    return StageFailed(
        f"{error.strerror or error} at `{where}`", remedy="see the reason above, then run the same command again; nothing was published"
    )


def _existing(place: Path) -> Path:
    return next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.exists())


def require_space(place: Path, needed: int) -> None:
    """Refuse before work when the file system of `place` has less than `needed` bytes free. Raises StageFailed."""
    existing = _existing(place)
    free = shutil.disk_usage(existing).free
    if free < needed:
        problem = f"about {needed / 1e6:.0f} MB are needed on the file system of `{existing}`, {free / 1e6:.0f} MB are free"
        raise StageFailed(problem, remedy="free some space or choose another --out, then run the same command again")


@contextlib.contextmanager
def workspace(out: Path, fs: Fs | None = None) -> Iterator[Workspace]:
    """A workspace for `out`; removed when the block raises. Left-overs of killed runs for the same `out` are removed first.

    The workspace is held by a kernel lock on its own directory: a killed run leaves nothing to unlock, and a living one is never robbed.
    """
    fs = fs or Fs()
    with named_failures(out):
        make_parents(fs, out.parent)
        path, lock = _fresh(fs, out)
    try:
        with named_failures(out):
            sweep(fs, out, keep=path)
            generations.finish(fs, out)
            yield Workspace(path, fs)
    finally:
        with contextlib.suppress(OSError):
            remove_tree(fs, path)
        os.close(lock)
        with contextlib.suppress(OSError):
            generations.finish(fs, out)


def make_parents(fs: Fs, folder: Path) -> None:
    missing = [f for f in (folder, *folder.parents) if not f.exists()]
    for parent in reversed(missing):
        with contextlib.suppress(FileExistsError):
            fs.mkdir(parent)


def _fresh(fs: Fs, out: Path) -> tuple[Path, int]:
    while True:
        path = out.with_name(f"{out.name}{PARTIAL}{secrets.token_hex(4)}")
        fs.mkdir(path)
        # Between mkdir and flock a sweeper may take it for a left-over.
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == os.fstat(lock).st_ino:
                    return path, lock
            os.close(lock)


def sweep(fs: Fs, out: Path, keep: Path | None = None) -> None:
    """Remove the left-overs of killed runs for `out`, as far as that can be done; those of living ones and `keep` stay."""
    for left in out.parent.glob(f"{_escaped(out.name)}{PARTIAL}*"):
        with claimed(left) as free, contextlib.suppress(OSError):
            # A link came here by an exchange with `out`, which had been one.
            if (free and left != keep) or generations.current(out, left):
                remove_tree(fs, left)


def _escaped(name: str) -> str:
    return "".join(f"[{char}]" if char in "*?[" else char for char in name)


def check_replaceable(out: Path, is_ours: Callable[[Path], bool]) -> None:
    """Refuse an output that cannot be one, or that exists and is not ours, before any work. Raises UsageError."""
    try:
        out.lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.ELOOP):
            raise _failure(error, out) from error
        raise UsageError(f"`{out}` cannot be a path here ({error.strerror})", remedy="choose another --out") from None
    if out.name in ("", ".."):
        raise UsageError(f"`{out}` cannot be replaced as a whole", remedy="choose another --out, a folder by its name")
    if os.path.ismount(out):
        raise UsageError(f"`{out}` is a mount point", remedy="choose another --out, a folder inside it for example")
    if generations.current(out) is None and (out.is_symlink() or (out.exists() and not out.is_dir())):
        raise UsageError(f"`{out}` is not a directory", remedy="choose another --out, or remove it")
    if out.exists() and any(out.iterdir()) and not is_ours(out) and not generations.interrupted(out):
        raise UsageError(f"`{out}` holds files that interlock did not write", remedy="choose another --out, or empty it yourself")


def publish(work: Workspace, out: Path) -> None:
    """Make the workspace visible as `out`: a reader sees the old directory or the new one, whole. The workspace's block names OSErrors."""
    fs, path = work.fs, work.path
    if (path / SCRATCH).exists():
        remove_tree(fs, path / SCRATCH)
    # Asked before anything is visible: a link from the first time on never has to turn a directory into one.
    exchanges = os.path.lexists(out) or generations.can_exchange(fs, path)
    _sync_tree(fs, path)
    if not (exchanges and _move(fs, path, out)):
        generations.replace(fs, path, out)
    fs.fsync(out.parent)
    with contextlib.suppress(FileNotFoundError):
        remove_tree(fs, path)


def _move(fs: Fs, path: Path, out: Path) -> bool:
    """Exchange `path` with what stands at `out`, or rename it there; False where the file system cannot exchange."""
    moved = None
    while moved is None:
        moved = _attempt_move(fs, path, out)
    return moved


def _attempt_move(fs: Fs, path: Path, out: Path) -> bool | None:
    try:
        if os.path.lexists(out):
            fs.exchange(path, out)
        else:
            fs.rename(path, out)
    except OSError as error:
        if error.errno in generations.CANNOT_EXCHANGE:
            return False
        # Another builder published, or took away, what stood there a moment ago.
        came = error.errno in (errno.ENOTEMPTY, errno.EEXIST)
        went = error.errno == errno.ENOENT and path.exists() and out.parent.exists() and not os.path.lexists(out)
        if came or went:
            return None
        raise
    return True


def _sync_tree(fs: Fs, folder: Path) -> None:
    for child in sorted(folder.iterdir()):
        if child.is_dir():
            _sync_tree(fs, child)
            continue
        fs.chmod(child, 0o644)  # libraries write with the umask of the moment; equal builds have equal modes
        fs.fsync(child)
    fs.chmod(folder, 0o755)
    fs.fsync(folder)


def save_file(path: Path, data: bytes, fs: Fs | None = None) -> None:
    """Replace one file outside artifacts (a result, a driver's record) atomically: temporary name, fsync, rename."""
    fs = fs or Fs()
    with named_failures(path):
        make_parents(fs, path.parent)
        temporary = path.with_name(f"{path.name}{PARTIAL}{secrets.token_hex(4)}")
        try:
            fs.write(temporary, data)
            fs.fsync(temporary)
            fs.rename(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
