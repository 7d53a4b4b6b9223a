"""No stage outlives its driver: what it would make, nobody would take.

Here: the stage's end of a pipe that the driver holds open. Not here: the driver's end, its standard input (children.py).
A driver that is killed can end nothing, and a stage deep in a library may not come to look for it. So a process of its own watches: forked before
anything heavy is imported, it sleeps until the pipe is closed, by whatever ended the driver, and then ends the stage's whole process group.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal

_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)


def hold() -> None:
    """Tie this process, and what it will start, to whoever holds the other end of its standard input. From here on it reads nothing there."""
    leader = os.getpid()
    alive, mine = os.pipe()
    if os.fork() == 0:
        os.close(mine)
        with contextlib.suppress(BaseException):
            _watch(leader, alive)
        os._exit(0)
    os.close(alive)  # `mine` stays open as long as this process lives
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def _watch(leader: int, alive: int) -> None:
    """Wait for the end of the driver, which ends the stage, or of the stage, whose driver then looks after the rest."""
    for number in _IGNORED:  # they are meant for the stage
        signal.signal(number, signal.SIG_IGN)
    while True:
        readable, _, _ = select.select([0, alive], [], [])
        if alive in readable:
            return
        with contextlib.suppress(OSError):
            if os.read(0, 1 << 10):
                continue
        if os.getpgid(leader) == leader:
            os.killpg(leader, signal.SIGKILL)
        os.kill(leader, signal.SIGKILL)
