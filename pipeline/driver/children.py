"""Stage processes: started in their environment, listened to, and never left behind.

Here: one child from request to answer. Not here: when it is wanted (build.py), what it does (request.py).
A child has a process group of its own, so that a key pressed at the terminal reaches the driver alone, which then ends the group. Its standard input
is a pipe into which the driver writes nothing: where that is closed, the driver is dead, and the child ends itself (leash.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interlock import errors, fs
from interlock.environments import Environment
from interlock.logs import Log
from interlock.voice import FIGURES, PULSE, plain
from pipeline.driver.request import TRACEBACK, Request
from pipeline.launchers import THREADS, Job, Launcher

# What a child may see of the driver's environment: everything else would be an input that no key knows.
PASSED = ("PATH", "HOME", "TMPDIR", "TEMP", "TMP", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME", "CI", "XDG_CACHE_HOME", "SSL_CERT_FILE",
          "CC", *THREADS)  # fmt: skip
PREFIXES = ("INTERLOCK_", "UV_")
# How long a child may take to end by itself after it was asked to.
GRACE_S = 10.0
POLL_S = 0.02
# How long is listened to what a child that has ended started and left.
LAST_WORDS_S = 1.0
LINE_LIMIT = 1 << 20


@dataclass
class Watch:
    """What a running child tells: each line it says, figures in JSON, its process for measuring, and that this has ended: its number may soon be
    another's."""

    line: Callable[[str], None]
    figures: Callable[[dict[str, Any]], None]
    started: Callable[[int], None]
    ended: Callable[[int], None]


def surroundings() -> dict[str, str]:
    """The environment variables that a stage's process gets."""
    # A thread that waits for the others gives its core away: beside another program, waiting actively slows every product several times.
    return {"OMP_WAIT_POLICY": "PASSIVE"} | {name: value for name, value in os.environ.items() if name in PASSED or name.startswith(PREFIXES)}


async def run(request: Request, env: Environment, launcher: Launcher, job: Job, log: Log, watch: Watch) -> dict[str, Any]:
    """Run one stage to its end. Returns its report.

    Raises the stage's own InterlockError; StageFailed where it was killed or crashed; asyncio.CancelledError after ending it when cancelled.
    """
    file = job.folder / "request.json"
    with fs.named_failures(file):
        fs.Fs().write(file, request.to_json())
    started = time.monotonic()
    command = launcher.command(env, ["stage", str(file), "--json"], job)
    log.line(f"$ {' '.join(command)}")
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True,
        env=surroundings(), limit=LINE_LIMIT,
    )  # fmt: skip
    watch.started(process.pid)
    assert process.stdout and process.stderr
    said, last = bytearray(), deque[str](maxlen=20)
    try:
        await _heard(process, asyncio.gather(_collect(process.stdout, said), _listen(process.stderr, log, watch, last)))
    except asyncio.CancelledError:
        await _end(process)
        log.line("interrupted")
        raise
    finally:
        kill_group(process.pid)  # what the child itself started and left
        watch.ended(process.pid)
    with contextlib.suppress(OSError):
        log.line((job.folder / TRACEBACK).read_text(encoding="utf-8"))
    log.line(f"ended with {process.returncode} after {time.monotonic() - started:.1f} s")
    return _report(request, process.returncode or 0, bytes(said), list(last), log)


async def _heard(process: asyncio.subprocess.Process, streams: asyncio.Future[Any]) -> None:
    """Wait until the child has ended and all that it said has been heard.

    What it started may hold its streams open: its group ends with it, and for what has left the group nobody waits.
    """
    while process.returncode is None and not streams.done():
        await asyncio.wait({streams}, timeout=POLL_S)
    if not streams.done():
        kill_group(process.pid)
        await asyncio.wait({streams}, timeout=LAST_WORDS_S)
        streams.cancel()
        return
    await process.wait()
    await streams


async def _collect(stream: asyncio.StreamReader, said: bytearray) -> None:
    while data := await stream.read(1 << 16):
        said += data


async def _listen(stream: asyncio.StreamReader, log: Log, watch: Watch, last: deque[str]) -> None:
    """Pass lines on as they come, and keep the last ones. Of a child that tells figures the log has no pulse: its work takes hours, and says itself
    what it has come to."""
    pulse = True
    while True:
        try:
            data = await stream.readline()
        except ValueError:  # longer than the limit: what has come of it is dropped
            continue
        if not data:
            return
        text = plain(data.decode("utf-8", "replace").rstrip("\n"))
        if (figures := _figures(text)) is not None:
            pulse = False
            watch.figures(figures)
            continue
        last.append(text)
        if pulse or not text.startswith(PULSE):
            log.line(text)
        watch.line(text)


def _figures(text: str) -> dict[str, Any] | None:
    """The figures that a line says, None where it is for people."""
    if not text.startswith(FIGURES):
        return None
    try:
        found = json.loads(text.removeprefix(FIGURES))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _report(request: Request, code: int, said: bytes, last: list[str], log: Log) -> dict[str, Any]:
    try:
        document = json.loads(said)
    except ValueError:
        document = None
    if code == 0 and isinstance(document, dict) and "contract" in document:
        return document
    where = f"its log is `{log.path}`"
    killed_by = -code if code < 0 else code - 128  # an engine or a connection in between can only end with the second
    if killed_by > 0:
        name = signal.Signals(killed_by).name if killed_by in signal.valid_signals() else str(killed_by)
        why = "if the system ran out of memory, close other programs or use fewer --jobs" if name == "SIGKILL" else "see its log"
        raise errors.StageFailed(f"stage `{request.stage}` was killed by {name}", remedy=f"{why}; then run the same command again; {where}")
    if isinstance(document, dict) and "error" in document:
        raise errors.from_dict(document)
    crash = last[-1] if last else "it said nothing"
    raise errors.StageFailed(f"stage `{request.stage}` ended with code {code}: {crash[:300]}", remedy=f"this is a bug of the stage; {where}")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ask the group to end, then make it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    try:
        await asyncio.wait_for(asyncio.shield(process.wait()), GRACE_S)
    except (asyncio.TimeoutError, asyncio.CancelledError):
        kill_group(process.pid)
        await process.wait()


def kill_group(pid: int) -> None:
    """End a stage's process and everything it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def resident_bytes(pid: int) -> int | None:
    """Memory in use by a process now; None where the system does not tell without help."""
    if sys.platform != "linux":
        return None
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None
