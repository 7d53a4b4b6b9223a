"""Verb `status`: every output of this project, whether it is what was placed, and how the last builds ended."""

from __future__ import annotations

import argparse

from interlock.command import Session, emit
from pipeline.driver.session import Project
from pipeline.driver.status import status


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--paranoid", action="store_true", help="read every byte of the outputs instead of trusting sizes and times")


def run(args: argparse.Namespace, session: Session) -> int:
    with session.voice.task("look at the outputs"):
        found = status(Project(), paranoid=args.paranoid)
    from pipeline.reports import build as shown

    if args.json:
        emit(found)
    else:
        shown.show_status(found)
    return 0
