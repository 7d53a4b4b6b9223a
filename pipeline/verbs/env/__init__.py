"""Verb `env`: the environments: what they are, whether they are what their locks say, entering one.

Here: the table of actions; beside it one module per action with its options (`add_options`) and its work (`run`), as verbs have. Not here: the proof
(pipeline/installed), making an environment (ci/sync), making locks (ci/lock), trying a new one (pipeline/updating).
"""

from __future__ import annotations

import argparse

from interlock.command import Session
from interlock.environments import Environment, environments
from interlock.errors import UsageError
from pipeline.verbs import actions
from pipeline.verbs.actions import Action

ACTIONS = {
    "list": Action("pipeline.verbs.env.table", "every environment: interpreter, packages, lock, size", "interlock env list"),
    "show": Action("pipeline.verbs.env.show", "one environment: its packages and what runs in it", "interlock env show export"),
    "check": Action("pipeline.verbs.env.check", "prove that what is installed is what is locked, by the hash of every file",
                    "interlock env check train"),
    "update": Action("pipeline.verbs.env.update", "move locked versions, if the probe and the recipe `random` lose nothing under the new lock",
                     "interlock env update export --package numpy"),
    "lock": Action("pipeline.verbs.env.lock", "make the locks anew from the definitions", "interlock env lock export --check"),
    "shell": Action("pipeline.verbs.env.shell", "a shell or one command in an environment", "interlock env shell train -- python -V"),
}  # fmt: skip


def add_options(parser: argparse.ArgumentParser) -> None:
    actions.add_options(parser, ACTIONS)


def run(args: argparse.Namespace, session: Session) -> int:
    return actions.run(ACTIONS, args, session)


def named(names: list[str]) -> list[Environment]:
    """The environments of these names, or all. Raises UsageError."""
    known = environments()
    for name in names:
        if name not in known:
            raise UsageError(f"there is no environment `{name}`", remedy=f"there are {', '.join(known)}")
    return [known[name] for name in names or known]
