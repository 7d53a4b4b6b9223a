"""Verb `gc`: take from the store what nobody needs."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from interlock.command import Session, emit
from interlock.voice import human
from pipeline.driver import gc
from pipeline.driver.session import Project
from pipeline.verbs.quantities import duration, size


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--keep", type=duration, default=gc.GRACE_S, metavar="AGE",
                        help="what is younger stays in any case: 0s, 12h, 30d (default 1h)")  # fmt: skip
    parser.add_argument("--max-size", type=size, metavar="SIZE", help="also take younger ones, oldest first, until the store has this size: 20GB")
    parser.add_argument("--max-answers", type=size, metavar="SIZE",
                        help="also take answers of evaluations, oldest first, until they have this size; else they go with their models")  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="say what would go, and take nothing")


def run(args: argparse.Namespace, session: Session) -> int:
    project = Project()
    with session.voice.task("clean the store"):
        taken = gc.collect(
            project.store, project.outputs, keep_s=args.keep, max_bytes=args.max_size, max_answers=args.max_answers, dry_run=args.dry_run
        )
    if args.json:
        emit({"dry_run": args.dry_run, "freed_bytes": taken.freed_bytes, **asdict(taken)})
        return 0
    verb = "would free" if args.dry_run else "freed"
    for entry in taken.objects:
        print(f"{'would take' if args.dry_run else 'took'} {entry['digest'][:16]}  {human(entry['bytes'], 'B')}")
    gone = f"{len(taken.objects)} artifacts, {len(taken.rejected)} rejected candidates, {len(taken.states)} unfinished, {taken.leftovers} left-overs"
    gone += f", answers of {len(taken.answers)} runs"
    stay = f"{taken.kept} artifacts stay, {human(taken.kept_bytes, 'B')}, and {human(taken.answers_bytes, 'B')} of answers"
    print(f"{verb} {human(taken.freed_bytes, 'B')}: {gone}; {stay}")
    return 0
