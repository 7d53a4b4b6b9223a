"""Verb `diff`: two artifacts side by side, and whether they are the same."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

from interlock.command import Session, emit


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", type=Path, help="an artifact directory")
    parser.add_argument("b", type=Path, help="another of the same kind")
    parser.add_argument("--within", type=_share, default=0.0, metavar="SHARE",
                        help="greatest difference of an element, as a share of the greatest element of its tensor in A, "
                        "that counts as numerically same (default 0: equal values)")  # fmt: skip
    parser.add_argument("--exit-code", action="store_true", help="end with 1 if they differ; without it the exit code is 0 whatever the outcome")


def _share(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= (value := float(text)) <= 1:
            return value
    raise argparse.ArgumentTypeError(f"`{text}` is no number from 0 to 1")


def run(args: argparse.Namespace, session: Session) -> int:
    from pipeline.comparison.compare import compare

    found = compare(args.a, args.b, args.within, session.voice)
    if args.json:
        emit(found.model_dump(mode="json"))
    else:
        from pipeline.reports.comparison import show_comparison

        show_comparison(found)
    return int(args.exit_code and found.outcome == "differs")
