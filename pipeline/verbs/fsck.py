"""Verb `fsck`: read every byte of the store."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from interlock.command import Session, emit
from interlock.voice import plain
from pipeline.driver import fsck
from pipeline.driver.gc import stored_bytes
from pipeline.driver.session import Project

DAMAGED = 3


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repair", action="store_true", help="move what is damaged to the quarantine, remove what killed builders left")


def run(args: argparse.Namespace, session: Session) -> int:
    store = Project().store
    with session.voice.task("read the store", stored_bytes(store), "B") as task:
        findings = fsck.check(store, repair=args.repair, progress=task.advance)
    if args.json:
        emit({"sound": not findings, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            print(plain(f"{finding.path}: {finding.problem}"))
            print(f"  {finding.remedy if finding.repaired else 'run `interlock fsck --repair`'}")
        print(f"{len(findings)} findings" if findings else f"sound: {store.root}")
    return 0 if args.repair or not findings else DAMAGED
