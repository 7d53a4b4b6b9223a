"""Verb `calibrate`: the threshold of a deployed halt head, measured on the deployment's own answers and written into its configuration.

Here: options and the report. Not here: the measurement (pipeline/halting/calibration.py), writing (pipeline/stages/calibrate.py).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from interlock.command import Session, emit
from interlock.errors import UsageError


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("deployed", type=Path, help="deployed directory with a halt head; its configuration and manifest are written anew")
    parser.add_argument("--most-cut", type=float, default=0.002, metavar="SHARE", help="share of answers that may be cut (default %(default)s)")
    parser.add_argument("--answers", type=Path, default=Path("models/answers/deployed"), metavar="DIR",
                        help="where its answers are kept: those that are there are not asked again (default %(default)s)")  # fmt: skip
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="processor threads (default %(default)s)")


def run(args: argparse.Namespace, session: Session) -> int:
    if args.threads < 1 or not 0 < args.most_cut < 1:
        raise UsageError("--threads is at least 1, --most-cut a share between 0 and 1", remedy="correct the value")
    import torch

    from pipeline.driver import stage
    from pipeline.halting.asking import open_deployment
    from pipeline.halting.calibration import calibration
    from pipeline.halting.dialogues import dialogues
    from pipeline.halting.traces import traces
    from pipeline.stages import calibrate

    torch.set_num_threads(args.threads)
    asked, toy = open_deployment(args.deployed, session.voice)
    some = traces(asked.answers(dialogues("fresh"), args.answers, session.voice))
    student = asked.model.student
    weight, bias = student.halt_head.weight.numpy(), student.halt_head.bias.numpy()
    found, curve = calibration(some, weight, bias, args.most_cut)
    params = calibrate.Params(out=args.deployed, deployed=args.deployed, calibration=found, toy=toy)
    report = stage.run(calibrate.STAGE, params, session.voice, session.argv)
    document = {**found.model_dump(mode="json"), "reliability": curve, "digest": report.contract.digest, "deployed": str(args.deployed)}
    if args.json:
        emit(document)
    else:
        sys.stdout.write("\n".join(_lines(document)) + "\n")
    return 0


def _lines(document: dict[str, Any]) -> list[str]:
    figures = document["evidence"]
    return [
        f"threshold {document['threshold']:.4f}: {figures['cut']:.2%} of {document['answers']} answers cut (at most {figures['cut_high']:.2%}), "
        f"{figures['saved']:.1%} of the tokens after completion saved [{figures['saved_low']:.1%} - {figures['saved_high']:.1%}]",
        f"AUC {figures['auc']:.3f}, Brier {figures['brier']:.3f}, ECE {figures['ece']:.3f}",
        "said   true   places",
        *(f"{said:.3f}  {true:.3f}  {count:>5}  {'#' * round(40 * true)}" for count, said, true in document["reliability"]),
    ]
