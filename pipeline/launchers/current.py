"""Launcher `current`: the running interpreter, in a process of its own.

Here: naming it. Not here: whether it may do the work: the stage admits it or not.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence

from interlock.environments import Environment
from pipeline.launchers import Job

ELSEWHERE = False


def ready(env: Environment) -> bool:
    """It runs already."""
    return True


def prepare(env: Environment) -> None:
    """Nothing to do."""


def python_version(env: Environment) -> str | None:
    return platform.python_version()


def image(env: Environment) -> str | None:
    """None: a folder."""
    return None


def command(env: Environment, argv: Sequence[str], job: Job | None = None) -> list[str]:
    """Isolated from PYTHONPATH, user site and the current folder (`-I`)."""
    return [sys.executable, "-I", "-m", "pipeline.here", *argv]
