"""How a stage's process is started inside its environment. Each launcher is one module with the four functions of `Launcher`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Protocol

from interlock.environments import Environment
from interlock.errors import UsageError

LAUNCHERS = {
    "uv": "the locked virtual environment envs/<name>/.venv, made by uv",
    "current": "the running interpreter, which must be the environment or work on a toy",
}


class Launcher(Protocol):
    """One way into an environment."""

    def ready(self, env: Environment) -> bool:
        """Whether the environment can be entered as it is, without work."""
        ...

    def prepare(self, env: Environment) -> None:
        """Bring the environment up to date. Raises EnvironmentRefused."""
        ...

    def python_version(self, env: Environment) -> str | None:
        """The version of the interpreter that will run; None before it is there."""
        ...

    def command(self, env: Environment, argv: Sequence[str]) -> list[str]:
        """The argument list that runs a verb there."""
        ...


def launcher(name: str) -> Launcher:
    """Raises UsageError for an unknown one."""
    if name not in LAUNCHERS:
        raise UsageError(f"there is no launcher `{name}`", remedy=f"there are {', '.join(LAUNCHERS)}")
    found: Launcher = importlib.import_module(f"pipeline.launchers.{name}")
    return found
