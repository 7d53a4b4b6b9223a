"""Launcher `uv`: the locked virtual environment under `envs/<name>/.venv`, made by `ci/sync` with uv.

Here: bringing the environment up to date and starting a verb in its interpreter. Not here: what the verb does.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from interlock.environments import ROOT, Environment
from interlock.errors import EnvironmentRefused
from pipeline.launchers import Job

ELSEWHERE = False


def ready(env: Environment) -> bool:
    """Whether it was made from the lock as it is now, by an interpreter that is still there."""
    return env.synced and env.python.exists()


def prepare(env: Environment) -> None:
    """Make `envs/<name>/.venv` hold exactly the lock: milliseconds when it does. Raises EnvironmentRefused."""
    if subprocess.run([ROOT / "ci" / "sync", env.name], check=False).returncode:
        raise EnvironmentRefused(
            f"environment `{env.name}` could not be made",
            required=f"Python {env.requires_python} with envs/{env.name}/requirements.lock",
            running="see the lines above",
            remedy=f"mend what they name, then run `ci/sync {env.name}`",
        )


def python_version(env: Environment) -> str | None:
    return env.python_version


def image(env: Environment) -> str | None:
    """None: a folder."""
    return None


def command(env: Environment, argv: Sequence[str], job: Job | None = None) -> list[str]:
    """The argument list that runs a verb in `env`: isolated from PYTHONPATH, user site and the current folder (`-I`).

    Where there is a verb to run, code in the environment must be what was installed. Raises EnvironmentRefused.
    """
    if argv:
        from pipeline.installed import glance

        glance.refuse_changed(env, env.python)
    return [str(env.python), "-I", "-m", "pipeline.here", *argv]
