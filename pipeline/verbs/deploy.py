"""Verb `deploy`: from finished parts, or from a checkpoint by the chain of stages that makes them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from interlock.command import Session
from interlock.contracts import checkpoint, package
from interlock.errors import UsageError
from pipeline.driver import chain, stage
from pipeline.driver.chain import Step, contract_digest
from pipeline.reports.ending import finish
from pipeline.stages import deploy
from pipeline.verbs import convert, export, import_
from runtime.config import CawsTier


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint", help="checkpoint directory, .pt file or import source (package:NAME, gguf:FILE, hf:DIR): runs the stages that are missing"
    )
    parser.add_argument("--out-dir", type=Path, required=True, help="deployed directory to make; parts are made beside it")
    parser.add_argument("--export-pytorch", action="store_true", help="with --checkpoint: export TorchScript prefill and decode")
    parser.add_argument("--export-coreml", action="store_true", help="with --checkpoint: convert to a Core ML package as well")
    parser.add_argument("--compress", choices=get_args(package.Method), default="none", metavar="METHOD",
                        help="with --export-coreml: deploy a compressed package and keep the fp16 one beside it (see `interlock convert --help`; "
                        "default %(default)s)")  # fmt: skip
    parser.add_argument("--export", type=Path, help="a finished export directory, instead of --checkpoint")
    parser.add_argument("--package", type=Path, help="a finished package directory made from that export")
    parser.add_argument("--tokenizer", type=Path, help="directory with tokenizer.json, for a checkpoint that brings none (.pt)")
    parser.add_argument("--latent-mode", action="store_true", help="claim latent reasoning: refused unless the artifacts have it")
    parser.add_argument("--halt-head", action="store_true", help="claim a halt head: refused unless the artifacts have it")
    parser.add_argument("--caws-tier", choices=[tier.value for tier in CawsTier], default="tier_2", help="CAWS budget (default %(default)s)")
    parser.add_argument("--force", action="store_true", help="with --checkpoint: make every part again")
    parser.add_argument("--toy", action="store_true", help="allow toy artifacts and any interpreter; the manifest says so")


def run(args: argparse.Namespace, session: Session) -> int:
    if args.checkpoint and (args.export or args.package):
        raise UsageError("--checkpoint cannot be combined with --export or --package", remedy="name the checkpoint, or the finished parts")
    if args.checkpoint:
        return _chain(args, session)
    if args.compress != "none":
        raise UsageError(
            "--compress belongs to --checkpoint", remedy="compress the finished package with `interlock convert --in PACKAGE --compress`"
        )
    if not args.export:
        raise UsageError("nothing to deploy: neither --checkpoint nor --export was given", remedy="see `interlock deploy --help`")
    params = deploy.Params(
        out=args.out_dir, toy=args.toy, export=args.export, package=args.package, latent_mode=args.latent_mode, halt_head=args.halt_head,
        caws_tier=CawsTier(args.caws_tier),
    )  # fmt: skip
    return finish([stage.run(deploy.STAGE, params, session.voice, session.argv)], as_json=args.json)


def _chain(args: argparse.Namespace, session: Session) -> int:
    if not args.export_pytorch:
        raise UsageError(
            "a deployment needs its TorchScript files: --export-pytorch is missing", remedy="add --export-pytorch, and --export-coreml for a package"
        )
    if args.compress != "none" and not args.export_coreml:
        raise UsageError(f"--compress {args.compress} needs a package to compress", remedy="add --export-coreml")
    reports = chain.run(plan(args), session.voice, force=args.force)
    finish(reports, as_json=args.json)
    session.voice.step(f'next: interlock infer {args.out_dir} --prompt "What is the capital of France?"')
    return 0


def plan(args: argparse.Namespace) -> list[Step]:
    """The stages that `--checkpoint` asks for, in order; pure but for looking at what kind of thing the checkpoint is."""
    base = args.out_dir.parent
    exported, packaged, compressed = base / "exported", base / "package", base / f"package-{args.compress}"
    imported = Path(args.checkpoint)
    steps = []
    if not (imported / checkpoint.FILE).is_file():
        imported = base / "checkpoint"
        steps.append(import_.step(args.checkpoint, args.tokenizer, imported))
    steps.append(export.step(imported, exported, toy=args.toy))
    if args.export_coreml:
        steps.append(convert.step("export", exported, imported, packaged, toy=args.toy))
    if args.compress != "none":
        steps.append(convert.step("package", packaged, imported, compressed, compress=args.compress, toy=args.toy))
    shipped = None if not args.export_coreml else packaged if args.compress == "none" else compressed
    return [*steps, _step(args, exported, shipped)]


def _step(args: argparse.Namespace, exported: Path, packaged: Path | None) -> Step:
    flags = {"--latent-mode": args.latent_mode, "--halt-head": args.halt_head, "--toy": args.toy}
    part = ("--package", str(packaged)) if packaged else ()
    argv = (
        "--export",
        str(exported),
        *part,
        "--out-dir",
        str(args.out_dir),
        "--caws-tier",
        args.caws_tier,
        *(flag for flag, given in flags.items() if given),
    )

    def inputs() -> dict[str, str]:
        found = {"export": contract_digest(exported, "export")}
        return found | ({"package": contract_digest(packaged, "package")} if packaged else {})

    return Step("deploy", deploy.STAGE.module, "train", "deployment", argv, args.out_dir, inputs)
