"""Verb `stages`: the stages and gates that builds can use, interlock's own and those of installed packages."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from interlock.command import Session, emit, foreign_words_to_stderr
from interlock.voice import plain
from pipeline.launchers import LAUNCHERS, default_launcher, launcher


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--launcher", choices=[*LAUNCHERS], default=default_launcher(), help="as given to `interlock build`")
    parser.add_argument(
        "--answer", action="store_true", help="what a build starts in each environment: answer a question, JSON on standard input, for this one"
    )


def run(args: argparse.Namespace, session: Session) -> int:
    if args.answer:
        question = json.load(sys.stdin)
        with foreign_words_to_stderr():
            from pipeline.driver import offers

            found = offers.answer(question["environment"], question["taken"], question["asked"])
        emit(found)
        return 0
    from pipeline.driver import session as sessions
    from pipeline.driver.registry import OURS, Registry

    project = sessions.Project()
    offered = Registry(launcher(args.launcher), project.folder / "offers", project.index).everything()
    ours = {entry.name: {"environment": entry.environment, "produces": entry.produces, "inputs": entry.inputs} for entry in OURS.values()}
    if args.json:
        emit({"interlock": ours, "environments": offered})
        return 0
    for name, entry in ours.items():
        print(f"{name:<16} stage of interlock, in {entry['environment']}: {_arrow(entry)}")
    for env, both in offered.items():
        for what, found in both.items():
            for name, offer in found.items():
                if _is_worth_a_line(what, name, env, offered):
                    print(plain(f"{name:<16} {what} of {offer['distribution']} {offer['version']}, in {env}: {_told(what, env, offer)}"))
    return 0


def _is_worth_a_line(what: str, name: str, env: str, offered: dict[str, dict[str, dict[str, Any]]]) -> bool:
    """A stage is told of once, where it runs; a gate is asked wherever it is installed."""
    runs_in = offered[env][what][name].get("environment", env)
    return env == runs_in or name not in offered.get(runs_in, {}).get(what, {})


def _told(what: str, env: str, offer: dict[str, Any]) -> str:
    if offer["problem"] is not None:
        return f"cannot be used: {offer['problem']}"
    if offer.get("environment", env) != env:
        return f"cannot be used: it runs in {offer['environment']}, where it is not installed"
    parameters = ", ".join(f"{name}: {kind}" for name, kind in offer["parameters"].items())
    said = _arrow(offer) if what == "stage" else f"asked about a {offer['kind']}"
    return f"{said}; parameters {parameters}" if parameters else said


def _arrow(entry: dict[str, Any]) -> str:
    return f"{', '.join(entry['inputs'].values()) or 'a source'} → {entry['produces']}"
