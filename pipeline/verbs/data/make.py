"""`data make`: its options."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from interlock.command import Session
from pipeline.datasets.generators import TASKS
from pipeline.datasets.tasks import Value
from pipeline.verbs.data.pairs import pair


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK", help="; ".join(f"{name}: {task.summary}" for name, task in TASKS.items()))
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="dataset directory to make")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="other rows for another seed (default %(default)s)")
    parser.add_argument("--rows", nargs="+", default=[], metavar="SPLIT=N", help="rows of a split, 0 for none: train=64000 validation=1000 test=1000")
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="NAME=VALUE",
                        help="a parameter of the task, as in --set depths=1..8; may be given again")  # fmt: skip


def run(args: argparse.Namespace, session: Session) -> int:
    from pipeline.driver import stage
    from pipeline.reports.ending import finish
    from pipeline.stages import data

    parameters = {name: _value(text) for name, text in map(pair, [*args.rows, *args.sets])}
    params = data.Params(task=args.task, out=args.out, seed=args.seed, parameters=parameters)
    return finish(stage.run(data.STAGE, params, session.voice, session.argv), as_json=args.json)


def _value(text: str) -> Value:
    """A value in the type that it is spelled in."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        if math.isfinite(value):
            return value
    return text
