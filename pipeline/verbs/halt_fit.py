"""Verb `halt-fit`: a halt head for the frozen weights of a checkpoint, fitted on its own answers to dialogues that a program can judge.

Here: options and the report. Not here: the work (pipeline/halting).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from interlock.command import Session, emit
from interlock.errors import UsageError
from interlock.voice import plain


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, help="checkpoint directory, as `interlock import` makes it")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the head's file, for `interlock import --halt-head` or a recipe")
    parser.add_argument("--answers", type=Path, default=Path("models/answers/development"), metavar="DIR",
                        help="where the model's answers are kept: those that are there are not asked again (default %(default)s)")  # fmt: skip
    parser.add_argument("--most-cut", type=float, metavar="SHARE", help="share of answers out of fold that the threshold may cut (default: 0.003)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="processor threads (default %(default)s)")


def run(args: argparse.Namespace, session: Session) -> int:
    if args.out.suffix != ".safetensors":
        raise UsageError(f"`{args.out}` is no name for a head", remedy="name a .safetensors file")
    if args.threads < 1 or (args.most_cut is not None and not 0 < args.most_cut < 1):
        raise UsageError("--threads is at least 1, --most-cut a share between 0 and 1", remedy="correct the value")
    import torch

    from pipeline.halting import head, recipe
    from pipeline.halting.asking import open_checkpoint
    from pipeline.halting.dialogues import dialogues
    from pipeline.halting.traces import traces

    torch.set_num_threads(args.threads)
    asked = open_checkpoint(args.checkpoint, session.voice)
    answers = asked.answers(dialogues("development"), args.answers, session.voice)
    with session.voice.task("fit the head"):
        labelled = traces(answers)
        made = recipe.head_of(recipe.fitted(labelled, args.most_cut or recipe.MOST_CUT), labelled, asked.backbone)
    head.write(args.out, made)
    document = {"out": str(args.out), **made.facts.model_dump(mode="json")}
    if args.json:
        emit(document)
    else:
        sys.stdout.write("\n".join(plain(line) for line in _lines(document)) + "\n")
    return 0


def _lines(document: dict[str, Any]) -> list[str]:
    evidence = document["evidence"]
    return [
        f"{document['out']}: a head on {document['backbone'][:16]}, {document['answers']} answers of {len(document['knows'])} families",
        f"threshold {document['threshold']:.4f}, chosen out of fold: {evidence['cut']:.2%} of the answers cut (at most {evidence['cut_high']:.2%}), "
        f"{evidence['saved']:.1%} of the tokens after completion saved",
        f"AUC at ends {evidence['auc']:.3f}, without the model's own {evidence['auc_without_own_ends']:.3f}; "
        f"Brier {evidence['brier']:.3f}, ECE {evidence['ece']:.3f}",
    ]
