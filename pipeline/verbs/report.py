"""Verb `report`: what a directory is, what is proven of it and what is not, for people and for programs.

The options that other verbs with a page share are here as well.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from types import NoneType
from typing import Any

from interlock import fs
from interlock.command import Session, emit
from interlock.contracts import io
from interlock.errors import ContractError, UsageError
from pipeline.driver.store import Store
from pipeline.lineage import lineage_of, resolve
from pipeline.verify import verify


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, help="an artifact directory, or a folder of which one artifact is the last")
    add_page_option(parser, "report")


def add_page_option(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument("--html", type=Path, nargs="?", const=Path(), metavar="FILE",
                        help=f"write one self-contained page too (default `DIRECTORY-{name}.html`, beside the directory)")  # fmt: skip


def run(args: argparse.Namespace, session: Session) -> int:
    from pipeline.reports.document import Proof, document_of

    directory, store = resolve(args.directory), Store.here()
    lineage = lineage_of(directory, store.find, store.root / "rejected")
    broken: ContractError | None = None
    try:
        verify(directory, session.voice)
    except ContractError as error:
        broken = error
    shown = document_of(directory, lineage, Proof(broken.violations if broken else ()), _runs(store))
    if args.html:
        from pipeline.reports.page import report_page

        save_page(args.html, directory, "report", report_page(shown), session)
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
        if isinstance(output, dict) and isinstance(wall, (int, float)) and isinstance(peak, (int, NoneType)):
            found[str(output.get("digest"))] = (float(wall), peak)
    return found


def _made(action: dict[str, Any]) -> float:
    made = action.get("made_unix_s")
    return made if isinstance(made, (int, float)) else 0.0


def save_page(asked: Path, directory: Path, name: str, page: str, session: Session) -> None:
    """Write a page to `asked`, or beside the directory where no name was given. Raises UsageError for a place inside an artifact."""
    file = asked if asked != Path() else directory.absolute().with_name(f"{directory.absolute().name}-{name}.html")
    inside = next((folder for folder in file.absolute().parents if folder.is_dir() and io.kind_of(folder)), None)
    if inside is not None:
        raise UsageError(
            f"`{file}` lies in the artifact directory `{inside}`", remedy="an artifact holds the files of its contract only: choose another"
        )
    if file.is_dir():
        raise UsageError(f"`{file}` is a directory", remedy="name a file, `report.html`")
    fs.save_file(file, page.encode())
    session.voice.step(f"wrote {file}")
