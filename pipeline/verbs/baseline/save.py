"""`baseline save`: a copy of an evaluation, whole and proven, where comparisons look for it."""

from __future__ import annotations

import argparse
from pathlib import Path

from interlock import fs
from interlock.command import Session, emit
from interlock.contracts import io
from interlock.contracts.evaluation import EvaluationContract
from pipeline.driver import stage
from pipeline.verbs.baseline import FOLDER


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("evaluation", type=Path, help="evaluation directory")
    parser.add_argument("--to", type=Path, metavar="DIR", help=f"where it is kept (default: {FOLDER}/SUITE)")


def run(args: argparse.Namespace, session: Session) -> int:
    contract = stage.read_whole(args.evaluation, EvaluationContract, session.voice)
    to = args.to or FOLDER / contract.suite
    fs.check_replaceable(to, lambda out: stage.is_ours(out, "evaluation"))
    with fs.workspace(to) as work:
        for name in sorted(io.names(contract)):
            if (args.evaluation / name).exists():
                work.copy(args.evaluation / name, name)
        fs.publish(work, to)
    if args.json:
        emit({"baseline": str(to), "digest": contract.digest, "exit_code": 0})
    else:
        print(f"{to}: {contract.suite}, {contract.items} items, {contract.verdict}, {contract.digest[:16]}")
    return 0
