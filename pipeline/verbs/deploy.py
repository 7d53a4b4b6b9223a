"""Verb `deploy`: from finished parts, or from a checkpoint by the chain of stages that makes them."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import get_args

from interlock.command import Session
from interlock.contracts import package
from interlock.errors import UsageError
from pipeline import recipe, recipe_tables
from pipeline.driver import session as sessions
from pipeline.driver import stage
from pipeline.driver.graph import Graph, build_graph
from pipeline.driver.plan import Options
from pipeline.launchers import default_launcher
from pipeline.reports.ending import finish
from pipeline.stages import deploy
from pipeline.verbs import build
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
    return finish(stage.run(deploy.STAGE, params, session.voice, session.argv), as_json=args.json)


def _chain(args: argparse.Namespace, session: Session) -> int:
    if not args.export_pytorch:
        raise UsageError(
            "a deployment needs its TorchScript files: --export-pytorch is missing", remedy="add --export-pytorch, and --export-coreml for a package"
        )
    if args.compress != "none" and not args.export_coreml:
        raise UsageError(f"--compress {args.compress} needs a package to compress", remedy="add --export-coreml")
    code = build.run_graph(graph_of(args), sessions.Selection(force=args.force), Options(), session, as_json=args.json)
    session.voice.step(f'next: interlock infer {args.out_dir} --prompt "What is the capital of France?"')
    return code


def graph_of(args: argparse.Namespace) -> Graph:
    """The build that the guide's flags ask for: a recipe in words of its own, with every part placed beside the deployed directory."""
    document = {
        "output": str(args.out_dir.parent),
        "outputs": list(recipe_tables.OUTPUTS),
        "toy": args.toy,
        "source": {"checkpoint": args.checkpoint, "tokenizer": str(args.tokenizer) if args.tokenizer else None},
        "convert": {"enabled": args.export_coreml},
        "compress": {"method": args.compress},
        "deploy": {"tier": args.caws_tier, "latent_mode": args.latent_mode, "halt_head": args.halt_head},
    }
    graph = build_graph(recipe.expand(Path("deploy"), document), default_launcher())
    target = graph.targets[0]
    deployed = target.steps["deploy"]
    placed = {(args.out_dir if node is deployed else out): node for out, node in target.placed.items()}
    return replace(graph, targets=(replace(target, placed=placed),))
