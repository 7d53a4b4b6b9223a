"""The probe: every case in a process of its own, so that a crash is a result and a hang ends.

Here: processes and their limits. Not here: what a case does (judge.py). Runs where torch and coremltools are installed, and needs nothing else:
the environments of the table hold no more.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import platform
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import metadata
from multiprocessing.connection import Connection
from pathlib import Path

from interlock import fs
from interlock.command import foreign_words_dropped
from interlock.environments import platform_name
from pipeline.compat.results import Column, Result, Versions

# A case takes 1 to 3 s on an idle machine.
LIMIT_S = 120.0

Work = Callable[[str, Path], Result]


def versions() -> Versions:
    """Those of the running interpreter."""
    python = ".".join(platform.python_version_tuple()[:2])
    torch, coremltools, numpy = (metadata.version(name).partition("+")[0] for name in ("torch", "coremltools", "numpy"))
    return Versions(torch, python, coremltools, numpy, platform_name())


def measure(cases: Sequence[str], home: Path, told: Callable[[str, Result], None] | None = None) -> Column:
    """Every case in turn. Files of the converter lie in `home` meanwhile; `told` hears each result."""
    with fs.workspace(home / "compat") as work:
        load(work.path)
        cells = {}
        for name in cases:
            folder = work.path / name
            work.fs.mkdir(folder)
            cells[name] = isolated(judge, name, folder)
            fs.remove_tree(work.fs, folder)
            if told:
                told(name, cells[name])
    return Column(versions(), cells)


def load(temporary: Path) -> None:
    """Import once what every case needs; the processes of the cases are copies of this one.

    coremltools leaves every package that it makes in the temporary folder, which Python chooses once: while torch is imported.
    """
    os.environ["TMPDIR"] = str(temporary)
    with foreign_words_dropped():
        for name in ("torch._dynamo", "pipeline.compat.conversions", "runtime.mil.runner"):
            importlib.import_module(name)


def judge(name: str, folder: Path) -> Result:
    from pipeline.compat.judge import measured

    return measured(name, folder)


def isolated(work: Work, name: str, folder: Path, limit_s: float = LIMIT_S) -> Result:
    """`work` in a process of its own, which ends with everything it started."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_inside, args=(work, name, folder, sender))
    started = time.monotonic()
    child.start()
    sender.close()
    try:
        result = _heard(receiver, limit_s)
        if result is None:
            result = Result("hung", note=f"no end within {limit_s:g} s")
        elif result.status == "crashed":
            child.join()
            result = replace(result, note=_ending(child.exitcode or 0))
    finally:
        _end(child.pid)
        child.join()
        receiver.close()
    return replace(result, seconds=round(time.monotonic() - started, 2))


def _heard(receiver: Connection, limit_s: float) -> Result | None:
    if not receiver.poll(limit_s):
        return None
    try:
        answer: Result = receiver.recv()
    except EOFError:
        return Result("crashed")
    return answer


def _inside(work: Work, name: str, folder: Path, sender: Connection) -> None:
    os.setsid()
    with foreign_words_dropped():
        sender.send(work(name, folder))
        sender.close()
    os._exit(0)  # nothing of torch or coremltools has anything to say at exit


def _end(pid: int | None) -> None:
    """The process and everything that it started."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if pid:
                kill(pid, signal.SIGKILL)


def _ending(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
