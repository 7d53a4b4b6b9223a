"""What two clones of this project must have in common before one works for the other.

Here: measuring it on either side, and comparing. Not here: asking the other side (ssh.py, ssh_here.py).
"""

from __future__ import annotations

import hashlib
import platform
from dataclasses import asdict, dataclass
from typing import Any

from interlock import environments
from interlock.canonical import canonical_json
from interlock.environments import ROOT, Environment
from interlock.errors import EnvironmentRefused
from pipeline.driver.keys import PACKAGES
from pipeline.installed import glance
from pipeline.launchers import sources


@dataclass(frozen=True)
class Clone:
    """A clone and the environment in it: source is over every file that a stage may run, lock over the environment's lock, problem what keeps the
    interpreter that runs there from being the environment; empty where nothing does."""

    platform: str
    source: str
    lock: str
    python: str
    problem: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def measured(env: Environment) -> Clone:
    """This clone, by the running interpreter."""
    source = sources.digests(ROOT, (*PACKAGES, f"envs/{env.name}/pyproject.toml"))
    return Clone(environments.platform_name(), hashlib.sha256(canonical_json(source)).hexdigest(), env.lock_digest, platform.python_version())


def serving(env: Environment) -> Clone:
    """This clone, asked to stand for another, by the interpreter of the environment."""
    problem = "" if env.synced else "it was not made from this lock"
    try:
        environments.admit(env, env.name)
        glance.refuse_changed(env, env.python)
    except EnvironmentRefused as refusal:
        problem = refusal.running
    return Clone(**measured(env).as_dict() | {"problem": problem})


def difference(env: Environment, ours: Clone, theirs: Clone) -> tuple[str, str, str] | None:
    """What is required, what was found and what to do, where one clone cannot work for the other."""
    sync = f"`ssh {{host}} 'cd {{root}} && ci/sync --force {env.name}'`"
    if ours.platform != theirs.platform:
        return f"platform {ours.platform}, which a key names", f"platform {theirs.platform}", "name a machine of the same platform"
    if ours.source != theirs.source:
        remedy = "bring the clone there to the state of this one (git pull, or rsync), changes that are not committed too"
        return f"source digest {ours.source[:16]}", f"source digest {theirs.source[:16]}", remedy
    if ours.lock != theirs.lock:
        remedy = f"bring envs/{env.name}/requirements.lock there to the state of this one, then {sync}"
        return f"lock digest {ours.lock[:16]}", f"lock digest {theirs.lock[:16]}", remedy
    if theirs.problem:
        required = f"Python {env.requires_python} with envs/{env.name}/requirements.lock"
        return required, f"Python {theirs.python}, {theirs.problem}", f"make it: {sync}"
    return None
