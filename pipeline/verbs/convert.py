"""Verb `convert`: its options."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import get_args

from interlock.command import Session
from interlock.contracts import export as export_contract
from interlock.contracts import package
from interlock.errors import UsageError
from pipeline.driver import stage
from pipeline.reports.ending import finish
from pipeline.stages import convert
from pipeline.verbs.quantities import bound, size


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--in", "--input", dest="source", type=Path, required=True,
                        help="export directory, or an exported file in it; or the directory of an fp16 package, to compress it")  # fmt: skip
    parser.add_argument("--out", "--output", dest="out", type=Path, default=Path("models/student/package"),
                        help="package directory to make (default %(default)s); a name ending in .mlpackage is made in its folder")  # fmt: skip
    parser.add_argument("--contract", type=Path, help="the export's contract, where it does not stand beside the exported file")
    parser.add_argument("--backend", choices=["pytorch"], default="pytorch", help="front end of the converter (default %(default)s)")
    parser.add_argument("--layout", choices=["multifunction", "single"], default="multifunction",
                        help="multifunction: prefill and decode with KV state; single: the guide's, enumerated (default %(default)s)")  # fmt: skip
    parser.add_argument("--lane", choices=["trace", "export", "both"], default="trace",
                        help="what the converter reads: the exported TorchScript, torch.export programs, or both, of which the first is published "
                        "and compared with the second (default %(default)s)")  # fmt: skip
    parser.add_argument(
        "--cache-length", type=int, metavar="C", help="KV slots of the state, a multiple of 32 (default: the longest length and 256 more)"
    )
    parser.add_argument("--checkpoint", type=Path, help="checkpoint of this export, to compare with (default: the export's stored weights)")
    parser.add_argument("--compress", choices=get_args(package.Method), default="none", metavar="METHOD",
                        help="none, source (the checkpoint's own blocks), int8, int4, palette4, palette6, palette8 "
                        "(default %(default)s)")  # fmt: skip
    parser.add_argument("--group", type=int, metavar="N",
                        help="elements of a row that share a scale, or rows that share a palette; 0: all (default: int8 64, "
                        "int4 32, palette4 16, larger palettes all)")  # fmt: skip
    parser.add_argument("--target-size", dest="target_bytes", type=size, metavar="SIZE",
                        help="mix with 8 and 16 bits: the most faithful weights that fit into SIZE (`120MB`, or bytes)")  # fmt: skip
    parser.add_argument("--target-kl", type=_positive, metavar="NATS", help="mix with 8 and 16 bits: the smallest weights of at most this mean KL")
    parser.add_argument("--gate", dest="gates", type=bound, action="append", metavar="NAME=VALUE",
                        help="a stricter bound than the standard one: psnr_db, kl_mean or kl_max; may be given again")  # fmt: skip
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
    if args.group is not None and args.group < 0:
        raise UsageError(f"--group {args.group} is no number of elements", remedy="give 0 or more")
    if args.target_bytes is not None and args.target_kl is not None:
        raise UsageError("--target-size and --target-kl are two targets", remedy="give one; the table of the frontier shows both")
    return convert.Params(
        out=out, toy=args.toy, source=source, checkpoint=args.checkpoint, layout=args.layout, lane=args.lane, cache_length=args.cache_length,
        compress=args.compress, group=args.group, target_bytes=args.target_bytes, target_kl=args.target_kl,
        gates=dict(args.gates) if args.gates else None,
    )  # fmt: skip


def _positive(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (value := float(text)) < float("inf"):
            return value
    raise argparse.ArgumentTypeError(f"`{text}` is no positive number")


def run(args: argparse.Namespace, session: Session) -> int:
    return finish(stage.run(convert.STAGE, params_from(args), session.voice, session.argv), as_json=args.json)
