"""Verb `export`: its options."""

from __future__ import annotations

import argparse
from pathlib import Path

from interlock.command import Session
from pipeline.driver import session as sessions
from pipeline.driver import stage
from pipeline.driver.graph import import_graph
from pipeline.reports.ending import finish
from pipeline.stages import export
from pipeline.verbs import build


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", type=Path, required=True, help="checkpoint directory, or a .pt file (brought in first)")
    parser.add_argument("--out", type=Path, default=Path("models/student/exported"), help="export directory to make (default %(default)s)")
    parser.add_argument("--mode", choices=["prefill", "decode", "both"], default="both", help="which files to export (default %(default)s)")
    parser.add_argument(
        "--enumerated-T",
        dest="lengths",
        type=int,
        nargs="+",
        metavar="T",
        help="prefill lengths to prove (default 512 1024 2048 4096; toy 64 128 256)",
    )
    parser.add_argument("--primary", type=int, metavar="T", help="the length that must pass (default 1024; toy 128; else the first)")
    parser.add_argument("--tokenizer", type=Path, help="directory with tokenizer.json, for a .pt file")
    parser.add_argument("--toy", action="store_true", help="toy lengths, any interpreter; the contract is marked and so is all that follows")


def params_from(args: argparse.Namespace) -> export.Params:
    """Raises UsageError on lengths that make no sense together."""
    lengths = tuple(args.lengths) if args.lengths else None
    params = export.Params(out=args.out, toy=args.toy, checkpoint=args.checkpoint, mode=args.mode, lengths=lengths, primary=args.primary)
    params.chosen()
    return params


def run(args: argparse.Namespace, session: Session) -> int:
    params = params_from(args)
    if params.checkpoint.is_file():
        # A `.pt` from elsewhere crosses the first boundary before torch sees it: the import stage reads it by its own rules.
        imported = params.out.parent / "checkpoint"
        brought = build.watched(sessions.Session(import_graph(f"pt:{params.checkpoint}", args.tokenizer, imported), sessions.Project()))
        if brought.error is not None:
            raise brought.error
        params = params.model_copy(update={"checkpoint": imported})
    return finish(stage.run(export.STAGE, params, session.voice, session.argv), as_json=args.json)
