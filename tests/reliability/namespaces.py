"""A function in a mount namespace of its own, where it may mount what it likes and nothing of it outlives it.

Here: entering one, as root or by a user namespace, and small mounts. Not here: what is tried inside (test_resources.py, test_overlay.py).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fakes import forks


def inside(function: Callable[..., Any], *args: Any) -> Any:
    """What `function(*args)` returns, called in a process of its own in a mount namespace of its own. Raises RuntimeError when it raises."""
    mine, theirs = forks.CONTEXT.Pipe()
    code = forks.exit_code(_answer, theirs, function, args)
    if code or not mine.poll():
        raise RuntimeError(f"{function.__name__} ended with {code}")
    return mine.recv()


def _answer(pipe: Connection, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    _enter()
    pipe.send(function(*args))


def _enter() -> None:
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        os.unshare(os.CLONE_NEWNS)
    else:
        os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWNS)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    mount("--make-rprivate", "/")


@cache
def available() -> bool:
    """Whether this machine lets us mount."""
    try:
        return bool(inside(_mounts))
    except (RuntimeError, OSError, AttributeError):
        return False


def _mounts() -> bool:
    mount("-t", "tmpfs", "tmpfs", "/mnt")
    return True


def mount(*words: object) -> None:
    said = subprocess.run(["mount", *map(str, words)], check=False, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
