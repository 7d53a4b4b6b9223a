"""Verb `report`: what a directory is, what is proven of it and what is not, for people and for programs."""

from __future__ import annotations

import argparse
import datetime
import json
import math
from pathlib import Path
from types import NoneType
from typing import Any

from interlock.command import Session, emit
from interlock.contracts import evaluation, io
from interlock.errors import ContractError, UsageError
from interlock.fs import save_file
from pipeline.driver.store import Store
from pipeline.lineage import lineage_of, resolve
from pipeline.verbs.pages import add_page_option, outside_artifacts, page_file, save_page
from pipeline.verify import verify


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, help="an artifact directory, or a folder of which one artifact is the last")
    add_page_option(parser, "report")
    parser.add_argument("--inspect", type=Path, metavar="FILE", help="of an evaluation: write its log in inspect_ai's format, too (NAME.json)")


def run(args: argparse.Namespace, session: Session) -> int:
    from pipeline.reports.document import Proof, document_of

    directory, store = resolve(args.directory), Store.here()
    file = page_file(args.html, directory, "report") if args.html else None
    if args.inspect:
        _check_inspect(args.inspect, directory)
    lineage = lineage_of(directory, store.find, store.root / "rejected")
    broken: ContractError | None = None
    try:
        verify(directory, session.voice)
    except ContractError as error:
        broken = error
    shown = document_of(directory, lineage, Proof(broken.violations if broken else ()), _runs(store))
    if file:
        from pipeline.reports.page import report_page

        save_page(file, report_page(shown), session)
    if args.inspect and broken is None:
        _save_inspect(args.inspect, directory, session)
    if args.json:
        emit(shown.model_dump(mode="json"))
    else:
        from pipeline.reports import page_text

        page_text.show_report(shown)
    return broken.exit_code if broken else 0


def _check_inspect(file: Path, directory: Path) -> None:
    """Raises UsageError."""
    outside_artifacts(file)
    if io.kind_of(directory) != "evaluation":
        raise UsageError(f"`{directory}` is no evaluation", remedy="leave --inspect out, or name a directory that `interlock eval` published")
    if file.suffix != ".json":
        raise UsageError(f"`{file}` would be no log that inspect_ai finds", remedy="name a file that ends with .json")


def _save_inspect(file: Path, directory: Path, session: Session) -> None:
    """The log of an evaluation that is what its contract says."""
    from pipeline.reports.evaluation import SUMMARY
    from pipeline.reports.inspect_log import inspect_log

    contract = io.read_contract(directory / evaluation.FILE, evaluation.EvaluationContract)
    rows = [json.loads(line) for line in (directory / evaluation.RESULTS).read_bytes().splitlines()]
    made = datetime.datetime.fromtimestamp((directory / evaluation.FILE).stat().st_mtime, datetime.timezone.utc)
    save_file(file, inspect_log(contract, rows, json.loads((directory / SUMMARY).read_bytes()), made))
    session.voice.step(f"wrote {file}")


def _runs(store: Store) -> dict[str, tuple[float, int | None]]:
    """Seconds and peak bytes of memory by the digest of what was made, from the store's records, the newest of each; one without figures tells
    nothing."""
    found: dict[str, tuple[float, int | None]] = {}
    for action in sorted(store.actions(), key=_made):
        output, wall, peak = action.get("output"), action.get("wall_s"), action.get("peak_rss_bytes")
        if isinstance(output, dict) and isinstance(wall, (int, float)) and math.isfinite(wall) and isinstance(peak, (int, NoneType)):
            found[str(output.get("digest"))] = (float(wall), peak)
    return found


def _made(action: dict[str, Any]) -> float:
    made = action.get("made_unix_s")
    return made if isinstance(made, (int, float)) else 0.0
