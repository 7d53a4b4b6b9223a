"""Verb `config`: runtime configurations: what holds and why, and whether a file is one.

Here: the table of actions; beside it one module per action. Not here: which source wins (runtime/effective.py), limits (runtime/limits.py).
"""

from __future__ import annotations

import argparse

from interlock.command import Session
from pipeline.verbs import actions
from pipeline.verbs.actions import Action

ACTIONS = {
    "show": Action("pipeline.verbs.config.show", "every field: the value that holds, who set it, what the tier or the training cut",
                   "CAWS_TIER=tier_1 interlock config show models/student/deployed --max-latent-spans 5"),
    "check": Action("pipeline.verbs.config.check", "whether a file is a runtime configuration, and one for a model",
                    "interlock config check my_config.json models/student/deployed"),
}  # fmt: skip


def add_options(parser: argparse.ArgumentParser) -> None:
    actions.add_options(parser, ACTIONS)


def run(args: argparse.Namespace, session: Session) -> int:
    return actions.run(ACTIONS, args, session)
