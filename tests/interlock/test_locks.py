"""Locks: one holder at a time across processes, nothing to unlock after a kill, and never unlocked in silence."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from interlock import locks
from interlock.errors import StageFailed
from interlock.locks import Lock

HOLD = """
import sys
from pathlib import Path
from interlock.locks import Lock
lock = Lock(Path(sys.argv[1]))
print(lock.attempt(), flush=True)
sys.stdin.read()
"""


def holding(path: Path) -> subprocess.Popen[str]:
    """A process that holds the lock until its stdin closes."""
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout and child.stdout.readline() == "True\n"
    return child


def end(child: subprocess.Popen[str]) -> None:
    child.communicate()


def test_exclusive_and_shared_holders(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "a.lock"
    first, second = Lock(file, shared=True), Lock(file, shared=True)
    writer = Lock(file)
    assert first.attempt() and second.attempt() and not writer.attempt()
    first.release()
    assert not writer.attempt()
    second.release()
    assert writer.attempt() and not first.attempt()
    writer.release()
    writer.release()
    assert first.attempt()
    first.release()


def test_a_killed_holder_leaves_nothing_to_unlock(tmp_path: Path) -> None:
    file = tmp_path / "a.lock"
    child = holding(file)
    mine = Lock(file)
    assert not mine.attempt() and mine.holder() == f"process {child.pid}"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert mine.attempt()
    mine.release()


def test_who_waits_is_told_for_whom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "FIRST_WORD_S", 0.1)
    monkeypatch.setattr(locks, "NEXT_WORD_S", 0.2)
    file = tmp_path / "a.lock"
    child = holding(file)
    said: list[str] = []

    def waiting(text: str) -> None:
        said.append(text)
        if len(said) == 3:
            end(child)

    with Lock(file).held(waiting, poll_s=0.01):
        assert len(said) == 3
        assert all(f"process {child.pid}" in text and str(file) in text for text in said)


def test_a_removed_lock_file_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cleaner that holds the lock removes its file just after we opened it: we take the new file, which others see as well."""
    file = tmp_path / "a.lock"
    cleaner = Lock(file)
    assert cleaner.attempt()
    flock = fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        if file.exists() and cleaner._descriptor is not None:
            file.unlink()
            cleaner.release()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    mine, other = Lock(file), Lock(file)
    assert mine.attempt() and file.exists()
    assert not other.attempt()
    mine.release()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    descriptors = len(list(Path("/dev/fd").iterdir()))
    with pytest.raises(StageFailed, match="no file locks"), Lock(tmp_path / "a.lock").held():
        pytest.fail("ran without a lock")
    assert len(list(Path("/dev/fd").iterdir())) == descriptors


@pytest.mark.parametrize("trap", ["link", "fifo", "folder"])
def test_only_a_regular_file_is_a_lock_file(tmp_path: Path, trap: str) -> None:
    file, victim = tmp_path / "a.lock", tmp_path / "victim"
    victim.write_bytes(b"mine")
    if trap == "link":
        file.symlink_to(victim)
    elif trap == "fifo":
        os.mkfifo(file)
    else:
        file.mkdir()
    with pytest.raises(StageFailed):
        Lock(file).attempt()
    assert victim.read_bytes() == b"mine"


def test_a_full_disk_does_not_refuse_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    lock = Lock(tmp_path / "a.lock")
    assert lock.attempt() and lock.holder() == "another process"
    lock.release()


def _add_ones(counter: Path, file: Path, rounds: int) -> None:
    for _ in range(rounds):
        with Lock(file).held(poll_s=0.001):
            value = int(counter.read_text())
            time.sleep(0.0005)
            counter.write_text(str(value + 1))
            if value % 3 == 0:
                file.unlink()  # what a cleaner does


def test_counting_under_a_lock_loses_nothing(tmp_path: Path) -> None:
    """Four processes add to a number that only the lock protects, while its file is removed again and again."""
    counter = tmp_path / "counter"
    counter.write_text("0")
    workers = [multiprocessing.get_context("spawn").Process(target=_add_ones, args=(counter, tmp_path / "a.lock", 100)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert counter.read_text() == "400"
