"""Verb `import`: its options."""

from __future__ import annotations

import argparse
from pathlib import Path

from interlock.command import Session
from pipeline.driver import stage
from pipeline.halting.shipped import find
from pipeline.reports.ending import finish
from pipeline.stages import import_


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="package:NAME, gguf:FILE, hf:DIR, pt:FILE, random:SEED, or a path whose kind is recognised")
    parser.add_argument("--out", type=Path, default=Path("models/student/checkpoint"), help="checkpoint directory to make (default %(default)s)")
    parser.add_argument("--tokenizer", type=Path, help="directory with tokenizer.json, for a source that brings none (.pt)")
    parser.add_argument(
        "--halt-head", metavar="NAME", help="add a halt head that was fitted on these weights: one that comes with interlock, or a file"
    )
    parser.add_argument(
        "--latent-tokens", nargs=2, metavar=("BOT", "EOT"), help="two unused control tokens of the tokenizer to be called <bot> and <eot>"
    )


def run(args: argparse.Namespace, session: Session) -> int:
    params = import_.Params(
        source=args.source,
        out=args.out,
        tokenizer=args.tokenizer,
        halt_head=find(args.halt_head) if args.halt_head else None,
        latent_tokens=(args.latent_tokens[0], args.latent_tokens[1]) if args.latent_tokens else None,
    )
    return finish(stage.run(import_.STAGE, params, session.voice, session.argv), as_json=args.json)
