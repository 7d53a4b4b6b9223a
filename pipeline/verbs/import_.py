"""Verb `import`: its options."""

from __future__ import annotations

import argparse
from pathlib import Path

from interlock.command import Session
from pipeline.driver import stage
from pipeline.reports.ending import finish
from pipeline.stages import import_


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="package:NAME, gguf:FILE, hf:DIR, pt:FILE, random:SEED, or a path whose kind is recognised")
    parser.add_argument("--out", type=Path, default=Path("models/student/checkpoint"), help="checkpoint directory to make (default %(default)s)")
    parser.add_argument("--tokenizer", type=Path, help="directory with tokenizer.json, for a source that brings none (.pt)")


def run(args: argparse.Namespace, session: Session) -> int:
    params = import_.Params(source=args.source, out=args.out, tokenizer=args.tokenizer)
    return finish(stage.run(import_.STAGE, params, session.voice, session.argv), as_json=args.json)
