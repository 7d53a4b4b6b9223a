"""A journal: records that were paid for, one line each, on the disk before the next one is asked for.

Here: appending, and finding a record again after a kill at any moment. Not here: what records say, when they are out of date (whoever writes them
puts that into the key or the journal's name).
A line is the sha256 of the rest, a space, and one JSON object with a `key`. A line that is not what it was written as (torn by a kill, damaged)
counts as not there: its record is made again. Of two lines with one key the later one counts.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from interlock.contracts.io import open_regular
from interlock.errors import ContractError, StageFailed
from interlock.fs import Fs, make_parents, named_failures

_DIGEST = 64
_PATIENCE_S = 0.5  # a cleaner has a file's lock for as long as it takes to remove it


class Journal:
    """An open journal: `keys` in memory, records on the disk. Nobody else has it open; use `opened`."""

    def __init__(self, path: Path, fs: Fs) -> None:
        self._path, self._fs = path, fs
        self._places: dict[str, tuple[int, int]] = {}
        self._end, whole = 0, True
        with open_regular(path) as file:
            for line in file:
                record = _record(line)
                if record is not None:
                    self._places[record["key"]] = self._end, len(line)
                self._end += len(line)
                whole = line.endswith(b"\n")
        if not whole:
            self._append(b"\n")

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def add(self, key: str, record: dict[str, Any]) -> None:
        """Keep a record. On return it is on the disk. Raises StageFailed where there is no space."""
        body = json.dumps({"key": key, **record}, separators=(",", ":"), allow_nan=False).encode()
        line = hashlib.sha256(body).hexdigest().encode() + b" " + body + b"\n"
        self._places[key] = self._append(line), len(line)

    def get(self, key: str) -> dict[str, Any]:
        """The record of a key. Raises KeyError, and StageFailed where the file was changed while it was open."""
        place, size = self._places[key]
        with open_regular(self._path) as file:
            file.seek(place)
            record = _record(file.read(size))
        if record is None or record["key"] != key:
            raise StageFailed(f"`{self._path}` was changed while it was in use", remedy="run the same command again")
        return record

    def _append(self, data: bytes) -> int:
        with named_failures(self._path):
            self._fs.append(self._path, data)
        place, self._end = self._end, self._end + len(data)
        return place


@contextlib.contextmanager
def opened(path: Path, fs: Fs | None = None) -> Iterator[Journal]:
    """The journal at a path, made where there is none, held by a kernel lock: a killed holder leaves nothing to unlock.

    Raises StageFailed where another process has it, ContractError where the path is no regular file.
    """
    fs = fs or Fs()
    with _locked(path, fs):
        yield Journal(path, fs)


@contextlib.contextmanager
def _locked(path: Path, fs: Fs) -> Iterator[None]:
    """The lock of the file that lies there: a cleaner may take it between its opening and its lock, and then there is another one to be made."""
    while True:
        with named_failures(path):
            make_parents(fs, path.parent)
            with contextlib.suppress(FileExistsError):
                fs.write(path, b"")
        try:
            held = open_regular(path)
        except ContractError:
            if os.path.lexists(path):
                raise
            continue
        with held:
            if _lock(held.fileno(), path):
                with named_failures(path):
                    fs.fsync(path.parent)  # not before the lock, which comes at once: in the time of a flush a cleaner takes the file
                yield
                return


def _lock(descriptor: int, path: Path) -> bool:
    """Whether the lock was had of the file that lies there. Patience is with one file: cleaners may come as often as they like."""
    end = time.monotonic() + _PATIENCE_S
    while not _free(descriptor):
        if not _lies(descriptor, path):
            return False
        if time.monotonic() >= end:
            raise StageFailed(f"another process writes `{path}`", remedy="wait until it has ended, or end it")
        time.sleep(0.01)
    return _lies(descriptor, path)


def _free(descriptor: int) -> bool:
    """Whether nobody had its lock; then it is ours."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _lies(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def records(path: Path) -> Iterator[dict[str, Any]]:
    """Every whole record of a journal that lies still, in order. Raises ContractError for what is no regular file."""
    with open_regular(path) as file:
        yield from (record for line in file if (record := _record(line)) is not None)


def _record(line: bytes) -> dict[str, Any] | None:
    digest, body = line[:_DIGEST], line[_DIGEST + 1 :].removesuffix(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        return None
    document: dict[str, Any] = json.loads(body)
    return document
