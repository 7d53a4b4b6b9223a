"""Verb `baseline`: an evaluation that later ones are compared with.

Here: the table of actions, and where a baseline lies. Not here: the actions (one module each), tests of pairs (eval/comparison.py).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from interlock.command import Session
from pipeline.verbs import actions
from pipeline.verbs.actions import Action

FOLDER = Path("models/student/baselines")

ACTIONS = {
    "save": Action("pipeline.verbs.baseline.save", "keep a copy of an evaluation as the baseline of its suite",
                   "interlock baseline save models/student/evaluations/smoke"),
    "compare": Action("pipeline.verbs.baseline.compare", "compare an evaluation with a baseline: exit 6 if a score got worse",
                      "interlock baseline compare models/student/evaluations/smoke --html compared.html"),
}  # fmt: skip


def add_options(parser: argparse.ArgumentParser) -> None:
    actions.add_options(parser, ACTIONS)


def run(args: argparse.Namespace, session: Session) -> int:
    return actions.run(ACTIONS, args, session)
