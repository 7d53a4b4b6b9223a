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
    """Whether it was made from the lock as it is now, by an interpreter that is still there."""
    return env.made(_folder(env)) and _python(env).exists()


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
    """Isolated from PYTHONPATH, user site and the current folder (`-I`).

    Where there is a verb to run, code in the environment must be what was installed. Raises EnvironmentRefused.
    """
    if argv:
        from pipeline.installed import glance

        # An edited file may be uv's own copy too, which the first command lets it forget.
        glance.refuse_changed(env, _python(env), f", then `ci/env tox run --recreate -e {env.name}`")
    return [str(_python(env)), "-I", "-m", "pipeline.here", *argv]


def _python(env: Environment) -> Path:
    return _folder(env) / "bin" / "python"


def _folder(env: Environment) -> Path:
    return ROOT / ".tox" / env.name
