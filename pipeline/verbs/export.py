"""Verb `export`: its options, and the stage as a step of a chain."""

from __future__ import annotations

import argparse
from pathlib import Path

from interlock.command import Session
from interlock.errors import UsageError
from pipeline.driver import chain, stage
from pipeline.driver.chain import Step, contract_digest
from pipeline.reports.ending import finish
from pipeline.stages import export
from pipeline.verbs import import_


def step(source: Path, out: Path, *, toy: bool) -> Step:
    """This stage in a chain."""
    argv = ("--checkpoint", str(source), "--out", str(out), *(("--toy",) if toy else ()))
    return Step("export", export.STAGE.module, "export", "export", argv, out, lambda: {"checkpoint": contract_digest(source, "checkpoint")})


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
    default, usual = (export.TOY, export.TOY_PRIMARY) if args.toy else (export.PRODUCTION, export.PRODUCTION_PRIMARY)
    lengths = tuple(sorted(set(args.lengths or default)))
    if lengths[0] < 1:
        raise UsageError(f"--enumerated-T {lengths[0]}: a length is at least 1 token", remedy="name positive lengths")
    primary = args.primary or (usual if usual in lengths else lengths[0])
    if primary not in lengths:
        raise UsageError(f"--primary {primary} is not among the lengths {', '.join(map(str, lengths))}", remedy="add it to --enumerated-T")
    return export.Params(out=args.out, toy=args.toy, checkpoint=args.checkpoint, mode=args.mode, lengths=lengths, primary=primary)


def run(args: argparse.Namespace, session: Session) -> int:
    params = params_from(args)
    if params.checkpoint.is_file():
        # A `.pt` from elsewhere crosses the first boundary before torch sees it: the import stage reads it by its own rules.
        imported = params.out.parent / "checkpoint"
        chain.run([import_.step(f"pt:{params.checkpoint}", args.tokenizer, imported)], session.voice)
        params = params.model_copy(update={"checkpoint": imported})
    return finish([stage.run(export.STAGE, params, session.voice, session.argv)], as_json=args.json)
