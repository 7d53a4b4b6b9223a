"""Verb `import`: its options, and the stage as a step of a chain."""

from __future__ import annotations

import argparse
from pathlib import Path

from interlock.command import Session
from pipeline.driver import stage
from pipeline.driver.chain import Step
from pipeline.reports.ending import finish
from pipeline.stages import import_
from pipeline.verbs import source_digest


def step(source: str, tokenizer: Path | None, out: Path) -> Step:
    """This stage in a chain."""
    words = ("--tokenizer", str(tokenizer)) if tokenizer else ()
    return Step(
        "import", import_.STAGE.module, "train", "checkpoint", (source, "--out", str(out), *words), out, lambda: source_digest.of(source, tokenizer)
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="package:NAME, gguf:FILE, hf:DIR, pt:FILE, or a path whose kind is recognised")
    parser.add_argument("--out", type=Path, default=Path("models/student/checkpoint"), help="checkpoint directory to make (default %(default)s)")
    parser.add_argument("--tokenizer", type=Path, help="directory with tokenizer.json, for a source that brings none (.pt)")


def run(args: argparse.Namespace, session: Session) -> int:
    params = import_.Params(source=args.source, out=args.out, tokenizer=args.tokenizer)
    return finish([stage.run(import_.STAGE, params, session.voice, session.argv)], as_json=args.json)
