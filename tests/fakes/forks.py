"""Functions run in a process of their own, in milliseconds: forked from a server that has the modules loaded."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any
from unittest import mock

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["interlock.contracts.io", "fakes.filesystems", "fakes.store_work"])


def exit_code(function: Callable[..., Any], *args: Any) -> int:
    """How a child that calls `function(*args)` ends: 0, 1 after an exception, -9 after SIGKILL."""
    # The server finds the modules of tests only by the environment: it is started before anything is sent to it.
    with mock.patch.dict(os.environ, PYTHONPATH=str(Path(__file__).parent.parent)):
        forkserver.ensure_running()
    child = CONTEXT.Process(target=function, args=args)
    child.start()
    child.join()
    assert child.exitcode is not None
    return child.exitcode
