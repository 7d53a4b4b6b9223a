"""Launcher `tox`: tox's own environment of the name, `.tox/<name>`, made from the same lock by the same `ci/install` as `tox -e <name>` makes it.

Here: bringing it up to date by running tox, and starting a verb in its interpreter, as the driver's own child. Not here: which interpreter it is
(base_python in tox.ini), what is installed (ci/install).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from interlock.environments import ROOT, Environment, python_version_in
from interlock.errors import EnvironmentRefused
from pipeline.launchers import Job

ELSEWHERE = False


def ready(env: Environment) -> bool:
    """Whether it was made from the lock as it is now."""
    return env.made(_folder(env))


def prepare(env: Environment) -> None:
    """Let tox make it: its set-up, and no command. Raises EnvironmentRefused."""
    words = [str(ROOT / "ci" / "env"), "tox", "run", "--quiet", "--skip-missing-interpreters", "false", "--workdir", str(ROOT / ".tox")]
    words += ["-e", env.name, "--override", f"testenv:{env.name}.commands="]
    made = subprocess.run(words, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
    if made.returncode or not ready(env):
        raise EnvironmentRefused(
            f"environment `{env.name}` could not be made by tox",
            required=f"Python {env.requires_python}, base_python of `{env.name}` in tox.ini, with envs/{env.name}/requirements.lock",
            running="see the lines above",
            remedy=f"mend what they name, then run `ci/env tox run -e {env.name}`",
        )


def python_version(env: Environment) -> str | None:
    return python_version_in(_folder(env))


def image(env: Environment) -> str | None:
    """None: a folder."""
    return None


def command(env: Environment, argv: Sequence[str], job: Job | None = None) -> list[str]:
    """Isolated from PYTHONPATH, user site and the current folder (`-I`)."""
    return [str(_folder(env) / "bin" / "python"), "-I", "-m", "pipeline.here", *argv]


def _folder(env: Environment) -> Path:
    return ROOT / ".tox" / env.name
