"""How a process is started inside an environment. Each launcher is one module with what `Launcher` names."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from interlock.environments import Environment
from interlock.errors import UsageError

LAUNCHERS = {
    "uv": "the locked virtual environment envs/<name>/.venv, made by uv",
    "tox": "the environment of that name in .tox, made by tox",
    "nix": "the package of the environment, built by nix from flake.nix",
    "container": "an image of the environment, made from Containerfile by podman or docker: no network, of the machine only what a stage needs",
    "ssh": "a clone of this project on another machine of the same platform, its environments made there",
    "current": "the running interpreter, which must be the environment or work on a toy",
}

# What decides how a stage's threads compute: how many there are, and how they wait.
THREADS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Job:
    """The places that one stage's process needs beside its environment. All paths are absolute.

    folder: its own, with its request: read and written, all that it makes is below it. reads: files and directories from which it reads. writes:
    other directories into which it writes, where a refused candidate goes; they may not exist yet. here: the working folder, from which the relative
    paths in its parameters start.
    """

    folder: Path
    reads: tuple[Path, ...]
    writes: tuple[Path, ...]
    here: Path


class Launcher(Protocol):
    """One way into an environment."""

    ELSEWHERE: bool
    """Whether a process without a job sees other files than the driver at the same paths."""

    def ready(self, env: Environment) -> bool:
        """Whether the environment can be entered as it is, without work."""
        ...

    def prepare(self, env: Environment) -> None:
        """Bring the environment up to date. Raises EnvironmentRefused."""
        ...

    def python_version(self, env: Environment) -> str | None:
        """The version of the interpreter that will run; None before it is there."""
        ...

    def image(self, env: Environment) -> str | None:
        """What the environment is, for the record of a contract: an image's digest, a store path; None where it is a folder that the lock fills."""
        ...

    def command(self, env: Environment, argv: Sequence[str], job: Job | None = None) -> list[str]:
        """The argument list that runs a verb there, isolated (`python -I`).

        A signal to its process group reaches the verb, and so does the end of its standard input, which is the driver's end (driver/leash.py).
        """
        ...


def default_launcher() -> str:
    """`$INTERLOCK_LAUNCHER`, or `uv`. Shells and programs of the flake set it: where they run there may be no uv."""
    return os.environ.get("INTERLOCK_LAUNCHER") or "uv"


def on_path(program: str) -> str | None:
    """Where a program is, as the shell finds it; None where it is not."""
    places = [Path(folder, program).absolute() for folder in os.get_exec_path()]
    return next((str(place) for place in places if os.access(place, os.X_OK) and place.is_file()), None)


def launcher(name: str) -> Launcher:
    """Raises UsageError for an unknown one."""
    if name not in LAUNCHERS:
        raise UsageError(f"there is no launcher `{name}`", remedy=f"there are {', '.join(LAUNCHERS)}")
    found: Launcher = importlib.import_module(f"pipeline.launchers.{name}")
    return found
