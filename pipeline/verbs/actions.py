"""Verbs with actions: `interlock VERB ACTION`.

Here: the record of an action, and handing over to its module. Not here: which actions a verb has (its own table).
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping
from dataclasses import dataclass

from interlock.command import Session


@dataclass(frozen=True)
class Action:
    """`module` has `add_options(parser)` and `run(args, session) -> int`."""

    module: str
    summary: str
    example: str


def add_options(parser: argparse.ArgumentParser, table: Mapping[str, Action]) -> None:
    """A parser below `parser` for each action, with the options of its module."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, help="; ".join(f"{n}: {a.summary}" for n, a in table.items()))
    for name, action in table.items():
        one = actions.add_parser(
            name,
            help=action.summary,
            description=action.summary,
            epilog=f"example:\n  {action.example}",
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        # Without a default: `interlock VERB --json ACTION` said it before.
        one.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print the report as one JSON document on stdout")
        importlib.import_module(action.module).add_options(one)


def run(table: Mapping[str, Action], args: argparse.Namespace, session: Session) -> int:
    """The action that was parsed."""
    return int(importlib.import_module(table[args.action].module).run(args, session))
