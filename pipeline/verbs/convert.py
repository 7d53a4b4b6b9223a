"""Verb `convert`: its options, and the stage as a step of a chain."""

from __future__ import annotations

import argparse
from pathlib import Path

from interlock.command import Session
from interlock.contracts import export as export_contract
from interlock.contracts import package
from interlock.errors import UsageError
from pipeline.driver import stage
from pipeline.driver.chain import Step, contract_digest
from pipeline.reports.ending import finish
from pipeline.stages import convert


def step(source: Path, checkpoint: Path, out: Path, *, toy: bool) -> Step:
    """This stage in a chain; the package is compared with the checkpoint that the export was made from."""
    argv = ("--in", str(source), "--checkpoint", str(checkpoint), "--out", str(out), *(("--toy",) if toy else ()))

    def inputs() -> dict[str, str]:
        return {"export": contract_digest(source, "export"), "checkpoint": contract_digest(checkpoint, "checkpoint")}

    return Step("convert", convert.STAGE.module, "export", "package", argv, out, inputs)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--in", "--input", dest="source", type=Path, required=True, help="export directory, or an exported file in it")
    parser.add_argument("--out", "--output", dest="out", type=Path, default=Path("models/student/package"),
                        help="package directory to make (default %(default)s); a name ending in .mlpackage is made in its folder")  # fmt: skip
    parser.add_argument("--contract", type=Path, help="the export's contract, where it does not stand beside the exported file")
    parser.add_argument("--backend", choices=["pytorch"], default="pytorch", help="front end of the converter (default %(default)s)")
    parser.add_argument("--layout", choices=["multifunction", "single"], default="multifunction",
                        help="multifunction: prefill and decode with KV state; single: the guide's, enumerated (default %(default)s)")  # fmt: skip
    parser.add_argument(
        "--cache-length", type=int, metavar="C", help="KV slots of the state, a multiple of 32 (default: the longest length and 256 more)"
    )
    parser.add_argument("--checkpoint", type=Path, help="checkpoint of this export, to compare with (default: the export's stored weights)")
    parser.add_argument("--toy", action="store_true", help="allow toy exports and any interpreter; the contract is marked")


def params_from(args: argparse.Namespace) -> convert.Params:
    """Directories from the guide's file names. Raises UsageError."""
    source = args.source.parent if args.source.suffix == ".pt" else args.source
    if args.contract and args.contract.resolve().parent != source.resolve():
        raise UsageError(
            f"--contract `{args.contract}` does not stand in `{source}`",
            remedy=f"an export is one directory: keep `{export_contract.FILE}` beside the exported files",
        )
    if args.out.suffix == ".mlpackage" and args.out.name != package.PACKAGE:
        raise UsageError(
            f"--out `{args.out.name}`: the package in a package directory is called `{package.PACKAGE}`",
            remedy="name a directory, or that file in it",
        )
    out = args.out.parent if args.out.suffix == ".mlpackage" else args.out
    return convert.Params(out=out, toy=args.toy, source=source, checkpoint=args.checkpoint, layout=args.layout, cache_length=args.cache_length)


def run(args: argparse.Namespace, session: Session) -> int:
    return finish([stage.run(convert.STAGE, params_from(args), session.voice, session.argv)], as_json=args.json)
