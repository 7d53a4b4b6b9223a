"""Verb `doctor`: what is wrong with this machine, this clone and, where one is named, this artifact."""

from __future__ import annotations

import argparse
from pathlib import Path

from interlock.command import Session, emit
from interlock.environments import ROOT
from interlock.errors import ContractError, EnvironmentRefused
from pipeline.doctor.checks import OF_ARTIFACT, OF_MACHINE
from pipeline.doctor.place import Place
from pipeline.doctor.running import examine
from pipeline.driver.store import Store
from pipeline.launchers import default_launcher


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, nargs="?", metavar="DIR", help="look into this checkpoint, export, package or deployed directory too")


def run(args: argparse.Namespace, session: Session) -> int:
    place = Place(ROOT, Store.here(), default_launcher(), args.directory)
    with session.voice.task("look around"):
        findings = examine(OF_MACHINE + (OF_ARTIFACT if args.directory else ()), place)
    wrong = {finding.group for finding in findings if finding.level == "error"}
    # The machine first: what is wrong there may be why an artifact looks wrong.
    code = EnvironmentRefused.exit_code if wrong - {"artifact"} else ContractError.exit_code if wrong else 0
    if args.json:
        emit({"exit_code": code, "directory": args.directory and str(args.directory), "findings": [finding.as_dict() for finding in findings]})
        return code
    from pipeline.reports import doctor

    doctor.show(findings)
    return code
