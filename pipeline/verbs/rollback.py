"""Verb `rollback`: put an earlier state of an output back."""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path

from interlock.command import Session, emit
from interlock.errors import UsageError
from pipeline.driver.session import Project
from pipeline.driver.store import Lease


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, help="an output that `interlock build` placed")
    parser.add_argument("--to", metavar="DIGEST", help="the state to put back, by the first characters of its digest (default: the one before)")
    parser.add_argument("--list", action="store_true", help="show the states that can be put back, and change nothing")


def run(args: argparse.Namespace, session: Session) -> int:
    project = Project()
    record = project.outputs.record(args.directory)
    if not record:
        raise UsageError(f"`{args.directory}` was not placed by a build of this project", remedy="run this where `interlock build` was run")
    if args.list:
        return _list(record, as_json=args.json)
    project.store.prepare()
    with Lease(project.store) as lease, session.voice.task(f"place {args.directory}"):
        digest = project.outputs.rollback(args.directory, args.to, lease)
    if args.json:
        emit({"directory": str(args.directory), "digest": digest, "was": record["digest"]})
    else:
        print(f"{args.directory} is {digest[:16]} again; it was {record['digest'][:16]} (`interlock rollback {args.directory}` takes that back)")
    return 0


def _list(record: dict[str, object], *, as_json: bool) -> int:
    history = record.get("history", [])
    assert isinstance(history, list)
    if as_json:
        emit({"digest": record["digest"], "history": history})
        return 0
    print(f"{str(record['digest'])[:16]}  now")
    for entry in history:
        until = datetime.datetime.fromtimestamp(entry["until_unix_s"]).astimezone()
        print(f"{entry['digest'][:16]}  until {until:%Y-%m-%d %H:%M}")
    return 0
