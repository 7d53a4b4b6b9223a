"""Verb `verify`: prove a directory and what it was made from, and say what was reached."""

from __future__ import annotations

import argparse
from pathlib import Path

from interlock.command import Session, emit
from pipeline.driver.store import Store
from pipeline.verify import verify


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, help="an artifact directory of any kind")


def run(args: argparse.Namespace, session: Session) -> int:
    proven = verify(args.directory, session.voice, Store.here().find)
    if args.json:
        emit({"verified": True, "directory": str(args.directory), **proven.as_dict()})
        return 0
    from pipeline.reports import text

    text.show_verified(proven)
    return 0
