"""`sandbox.call` for what is asked again and again: the child is forked from a process that is kept, where what the function needs is imported.

Here: the kept processes, one for each call that runs at a time. Not here: files, limits and answers of a child (sandbox.py), which are the same.
Each call has a child of its own, with its own limits, and nothing of it is left for the next. What is kept has read no request: it is given three
open files and three numbers, forks, waits, and says how the child ended. Where a call takes too long, or the kept process does not answer, both are
killed, and the next call starts another. It ends when its owner does, however that ends: it reads the end of their socket.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator

from runtime.engine import sandbox
from runtime.engine.sandbox import DEFAULT_LIMITS, ChildFailed, Limits

# Idle processes of one function that are kept, some 20 MB each, most of it shared; where more calls run at once, the others end with their call.
KEPT = 4

_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from runtime.engine.forks import keep; keep(*sys.argv[2:])"
_LIMITS = struct.Struct("=qqq")  # memory, output, seconds of computing
_CODE = struct.Struct("=i")

_Name = tuple[str, str]  # function, ready


class _Idle:
    """Kept processes that nobody uses."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[_Name, list[_Kept]] = {}

    def take(self, name: _Name) -> _Kept | None:
        """None where there is none that lives: the system may have ended one that idled, for its memory."""
        with self._lock:
            found = self._kept.get(name, [])
            while found:
                if (kept := found.pop()).lives:
                    return kept
                kept.end()
        return None

    def give(self, name: _Name, kept: _Kept) -> bool:
        """Whether there is room for it."""
        with self._lock:
            found = self._kept.setdefault(name, [])
            if room := len(found) < KEPT:
                found.append(kept)
            return room

    def all(self) -> list[_Kept]:
        """Taken, all of them."""
        with self._lock:
            found = [kept for idle in self._kept.values() for kept in idle]
            self._kept.clear()
            return found

    def copied(self) -> None:
        """In a copy of the owner, which must not speak on its sockets. The lock may have been held when it was copied."""
        self._lock = threading.Lock()
        for kept in self.all():
            kept.leave()


_idle = _Idle()


def call(function: str, argument: object, *, limits: Limits = DEFAULT_LIMITS, ready: str = "") -> object:
    """As `sandbox.call`, with its errors, in some milliseconds after the first time.

    ready: `name` in the function's module of what is called once before all, without arguments: what it imports and caches, every child has.
    """
    with _taken((function, ready)) as kept:
        return sandbox.answered(argument, limits, lambda *files: kept.run(limits, files))


@contextlib.contextmanager
def _taken(name: _Name) -> Iterator[_Kept]:
    """One that nobody else uses meanwhile. It is used again unless it is over."""
    kept = _idle.take(name) or _Kept(name)
    try:
        yield kept
    finally:
        if kept.over or not _idle.give(name, kept):
            kept.end()


class _Kept:
    def __init__(self, name: _Name) -> None:
        function, ready = name
        self.over = False
        self._socket, its = socket.socketpair()
        argv = [sys.executable, "-I", "-c", _BOOT, json.dumps(sandbox.import_path()), function, ready, str(its.fileno())]
        nothing = subprocess.DEVNULL
        with its:  # a session of its own: what it forks can be ended with it, and Ctrl-C is for its owner
            self._process = subprocess.Popen(
                argv, stdin=nothing, stdout=nothing, stderr=nothing, env=sandbox.environment(), pass_fds=(its.fileno(),), start_new_session=True
            )

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def run(self, limits: Limits, files: sandbox.Files) -> int:
        """How the child ended. Raises ChildFailed."""
        over, self.over = self.over, True  # until it has answered: also for an interrupt while waiting
        assert not over
        self._socket.settimeout(limits.wall_s)
        try:
            numbers = _LIMITS.pack(limits.memory_bytes, limits.output_bytes, limits.cpu_s)
            socket.send_fds(self._socket, [numbers], [file.fileno() for file in files])
            answer = self._socket.recv(_CODE.size)
        except TimeoutError:
            raise sandbox.too_long(limits) from None
        except OSError:
            answer = b""
        if len(answer) != _CODE.size:
            raise ChildFailed("crashed", "ended without an answer")
        self.over = False
        code: int
        (code,) = _CODE.unpack(answer)
        return code

    def end(self) -> None:
        self.over = True
        self._socket.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def leave(self) -> None:
        """It is somebody else's: of the process that this one is a copy of."""
        self._socket.close()
        self._process.returncode = 0


def end_all() -> None:
    """What is idle ends; the next call starts another."""
    for kept in _idle.all():
        kept.end()


atexit.register(end_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.copied)


def keep(function: str, ready: str, descriptor: str) -> None:
    """The kept process's side."""
    module = importlib.import_module(function.partition(":")[0])
    if ready:
        getattr(module, ready)()
    gc.freeze()  # children collect no garbage of before, and so do not copy its memory
    with socket.socket(fileno=int(descriptor)) as asked:
        while True:
            numbers, files, _, _ = socket.recv_fds(asked, _LIMITS.size, 3)
            if len(numbers) != _LIMITS.size or len(files) != 3:
                return  # the owner is gone
            child = os.fork()
            if not child:
                _become(function, asked, files, numbers)
            for file in files:
                os.close(file)
            _, status = os.waitpid(child, 0)
            asked.sendall(_CODE.pack(os.waitstatus_to_exitcode(status)))


def _become(function: str, asked: socket.socket, files: list[int], numbers: bytes) -> None:
    """A child of `sandbox.call`, over these files. Never returns."""
    try:
        asked.close()
        for standard, file in enumerate(files):
            os.dup2(file, standard)
            os.close(file)
        sandbox.serve(function, *map(str, _LIMITS.unpack(numbers)))
    finally:
        os._exit(1)
