"""`env list`: every environment in one line.

Here: what is said of each. Not here: how it is shown (pipeline/reports/environments.py).
"""

from __future__ import annotations

import argparse
from typing import Any

from interlock.command import Session, emit
from interlock.environments import Environment
from pipeline.installed.distributions import distributions
from pipeline.installed.files import size_bytes
from pipeline.verbs.env import named


def add_options(parser: argparse.ArgumentParser) -> None: ...


def run(args: argparse.Namespace, session: Session) -> int:
    with session.voice.task("look at the environments"):
        found = [described(env) for env in named([])]
    if args.json:
        emit({"environments": found})
        return 0
    from pipeline.reports import environments as report

    report.show_list(found)
    return 0


def described(env: Environment) -> dict[str, Any]:
    """What `list` says of one; `python`, `packages` and `size_bytes` are of what is installed, null where nothing is."""
    venv = env.folder / ".venv"
    made = env.python_version is not None
    return {
        "name": env.name,
        "requires_python": env.requires_python,
        "python": env.python_version,
        "interpreter": str(env.python.resolve()) if env.python.exists() else None,
        "state": "synced" if env.synced and env.python.exists() else "out of date" if made else "not made",
        "packages": len(distributions(venv)) if made else None,
        "lock": str(env.lock_file),
        "lock_digest": env.lock_digest,
        "size_bytes": size_bytes(venv) if made else None,
    }
