"""`env show`: one environment: its definition, its packages, and what runs in it.

Here: what is said of it. Not here: how it is shown (pipeline/reports/environments.py).
"""

from __future__ import annotations

import argparse
from typing import Any

from interlock.command import Session, emit
from interlock.environments import Environment
from pipeline.installed.distributions import Distribution, distributions
from pipeline.verbs.env import named
from pipeline.verbs.env.table import described


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the environment")


def run(args: argparse.Namespace, session: Session) -> int:
    (env,) = named([args.name])
    with session.voice.task(f"look at environment {env.name}"):
        document = {**described(env), "definition": str(env.folder / "pyproject.toml"), **_runs(env), "packages": _packages(env)}
    document["systems"] = env.definition["tool"]["interlock"]["systems"]
    if args.json:
        emit(document)
        return 0
    from pipeline.reports import environments as report

    report.show_one(document)
    return 0


def _runs(env: Environment) -> dict[str, list[str]]:
    from pipeline.driver.registry import OURS
    from pipeline.verbs import VERBS

    return {
        "stages": [name for name, entry in OURS.items() if entry.environment == env.name],
        "verbs": [verb.name for verb in VERBS if verb.environment == env.name],
    }


def _packages(env: Environment) -> list[dict[str, Any]]:
    """Every locked package that its interpreter takes and every other that is installed; what the definition asks for comes first."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    asked = {str(canonicalize_name(need.name)): str(need.specifier) for need in map(Requirement, env.definition["project"]["dependencies"])}
    installed = {one.name: one for one in distributions(env.folder / ".venv")}
    pins = env.pins(env.python_version)
    rows = [
        {
            "name": name,
            "asked": asked.get(name) if name in pins else None,
            "locked": pins.get(name),
            "installed": installed[name].version if name in installed else None,
            "size_bytes": _size(installed[name]) if name in installed else None,
        }
        for name in {**pins, **installed}
    ]
    return sorted(rows, key=lambda row: (row["asked"] is None, -(row["size_bytes"] or 0), row["name"]))


def _size(one: Distribution) -> int | None:
    try:
        return sum(entry.size or 0 for entry in one.entries())
    except (OSError, ValueError):
        return None
