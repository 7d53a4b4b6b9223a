"""Functions run in a process of their own, in milliseconds: forked from a server that has the modules loaded."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["interlock.contracts.io", "interlock.fs", "interlock.locks", "fakes.artifacts", "fakes.filesystems"])


def exit_code(function: Callable[..., Any], *args: Any) -> int:
    """How a child that calls `function(*args)` ends: 0, 1 after an exception, -9 after SIGKILL."""
    child = CONTEXT.Process(target=function, args=args)
    child.start()
    child.join()
    assert child.exitcode is not None
    return child.exitcode
