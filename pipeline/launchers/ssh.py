"""Launcher `ssh`: stages run on another machine of the same platform, in a clone of this project whose environments `ci/sync` has made there.

Here: whether that clone is this working tree, and the process that runs a stage in it. Not here: the connection and its refusals (ssh_connection.py),
what travels (ssh_here.py, ssh_there.py).
What was found there is noted in `.interlock/ssh/`, so that nobody is asked while there is nothing to do; every stage asks again before it works.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from interlock import fs
from interlock.canonical import canonical_json
from interlock.environments import ROOT, Environment
from interlock.errors import EnvironmentRefused
from pipeline.driver import records
from pipeline.launchers import Job
from pipeline.launchers.ssh_clone import Clone, difference, measured
from pipeline.launchers.ssh_connection import Place, place, refused, with_agent

ELSEWHERE = True
THERE = "pipeline.launchers.ssh_there"


def ready(env: Environment) -> bool:
    """Whether the clone that was asked is the one that is named now, and was this working tree as it is now."""
    note = _note(env)
    return bool(note) and note["key"] == _key(env)


def prepare(env: Environment) -> None:
    """Ask the clone what it is. Raises EnvironmentRefused where it is not this working tree, on such a machine, with its environment made."""
    to = place()
    print(f"ssh: ask {to.host} for environment `{env.name}` in {to.root}", file=sys.stderr)
    asked = to.ask(to.python(env.name), "-I", "-m", THERE, env.name)
    try:
        told = Clone(**json.loads(asked.stdout))
    except (ValueError, TypeError):
        raise refused(to, env, asked.returncode, asked.stderr) from None
    refuse_other(to, env, told)
    fs.make_parents(fs.Fs(), _file(env).parent)
    records.save(_file(env), {"key": _key(env), "lock": env.lock_digest, "to": to.name, "python": told.python})


def refuse_other(to: Place, env: Environment, told: Clone) -> None:
    """Refuse a clone that is not what this side is. Raises EnvironmentRefused, and forgets what was noted of it."""
    wrong = difference(env, measured(env), told)
    if not wrong:
        return
    records.save(_file(env), {})
    required, running, remedy = wrong
    raise EnvironmentRefused(
        f"the clone on {to.host} cannot stand for environment `{env.name}`",
        required=required,
        running=f"{running} in {to.root} on {to.host}",
        remedy=remedy.format(host=to.host, root=to.root),
    )


def python_version(env: Environment) -> str | None:
    """Of the interpreter there, as long as neither the lock nor the machine is another: a change of the project's source does not change it."""
    note = _note(env)
    return note["python"] if note and (note["lock"], note["to"]) == (env.lock_digest, _name()) else None


def image(env: Environment) -> str | None:
    """None: a folder."""
    return None


def command(env: Environment, argv: Sequence[str], job: Job | None = None) -> list[str]:
    """The process here that sends a stage there and brings back what it made; without a job the verb itself, there."""
    to = place()
    if job is None:
        return to.command(to.python(env.name), "-I", "-m", "pipeline.here", *argv)
    places = {
        "environment": env.name,
        "folder": str(job.folder),
        "reads": [os.path.normpath(path) for path in job.reads],
        "writes": [str(path) for path in job.writes],
        "here": str(job.here),
    }
    return [*with_agent(), sys.executable, "-I", "-m", "pipeline.launchers.ssh_here", json.dumps(places)]


def _key(env: Environment) -> str:
    return hashlib.sha256(canonical_json([_name(), measured(env).source, env.lock_digest])).hexdigest()


def _name() -> str:
    try:
        return place().name
    except EnvironmentRefused:
        return ""


def _file(env: Environment) -> Path:
    return ROOT / ".interlock" / "ssh" / f"{env.name}.json"


def _note(env: Environment) -> dict[str, Any]:
    """What was noted of the clone's environment; empty where nothing was, or not in this form."""
    note = records.load(_file(env))
    return note if all(isinstance(note.get(name), str) for name in ("key", "lock", "to", "python")) else {}
