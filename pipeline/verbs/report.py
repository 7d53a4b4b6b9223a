"""Verb `report`: what a directory is, what is proven of it and what is not, for people and for programs."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from types import NoneType
from typing import Any

from interlock.command import Session, emit
from interlock.errors import ContractError
from pipeline.driver.store import Store
from pipeline.lineage import lineage_of, resolve
from pipeline.verbs.pages import add_page_option, page_file, save_page
from pipeline.verify import verify


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, help="an artifact directory, or a folder of which one artifact is the last")
    add_page_option(parser, "report")


def run(args: argparse.Namespace, session: Session) -> int:
    from pipeline.reports.document import Proof, document_of

    directory, store = resolve(args.directory), Store.here()
    file = page_file(args.html, directory, "report") if args.html else None
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
    if args.json:
        emit(shown.model_dump(mode="json"))
    else:
        from pipeline.reports import page_text

        page_text.show_report(shown)
    return broken.exit_code if broken else 0


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
