"""Verb `ci`: what CI runs, derived from the environments."""

from __future__ import annotations

import argparse

from interlock.command import Session, emit
from pipeline import ci

ACTIONS = {"matrix": "the jobs: each tox environment on each system of the environment that it installs"}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=list(ACTIONS), help="; ".join(f"{name}: {meaning}" for name, meaning in ACTIONS.items()))


def run(args: argparse.Namespace, session: Session) -> int:
    document = ci.matrix()
    if args.json:
        emit(document)
        return 0
    for when in ("include", "nightly"):
        for row in document[when]:
            notes = [when] * (when == "nightly") + ["never run there"] * (not row["proven"]) + [row["limits"]] * bool(row["limits"])
            print(f"{row['system']:<15} {row['environment'] or '-':<7} {row['python']:<5} {row['tox']:<12} {'; '.join(notes)}".rstrip())
    return 0
