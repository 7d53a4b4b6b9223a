"""Verb `verify`: prove a directory and say what it is."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from interlock.command import Session, emit
from interlock.contracts import io
from pipeline.verify import verify


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, help="a checkpoint, export, package or deployed directory")


def run(args: argparse.Namespace, session: Session) -> int:
    contract = verify(args.directory, session.voice)
    if args.json:
        emit({"verified": True, "directory": str(args.directory), "contract": json.loads(io.pretty(contract))})
        return 0
    from pipeline.reports import text

    text.show_verified(args.directory, contract)
    return 0
