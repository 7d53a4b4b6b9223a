"""Verb `lineage`: where an artifact comes from, down to its source."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from interlock.command import Session, emit
from interlock.errors import UsageError
from interlock.voice import path_text
from pipeline.driver.store import Store
from pipeline.lineage import lineage_of, resolve
from pipeline.verbs.pages import add_page_option, page_file, save_page


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, help="an artifact directory, or a folder of which one artifact is the last")
    add_page_option(parser, "lineage")
    parser.add_argument("--mermaid", action="store_true", help="print a Mermaid flowchart on stdout, for Markdown")


def run(args: argparse.Namespace, session: Session) -> int:
    if args.json and args.mermaid:
        raise UsageError("--json and --mermaid are two forms of one output", remedy="give one of them")
    from pipeline.reports import ancestry, document

    directory, store = resolve(args.directory), Store.here()
    file = page_file(args.html, directory, "lineage") if args.html else None
    lineage = lineage_of(directory, store.find, store.root / "rejected")
    artifacts, rejected = document.artifacts_of(lineage), document.candidates_of(lineage.rejected)
    if file:
        from pipeline.reports.page import lineage_page

        save_page(file, lineage_page(path_text(directory), artifacts, rejected), session)
    if args.json:
        emit(
            {
                "directory": path_text(directory),
                "artifacts": [item.model_dump(mode="json") for item in artifacts],
                "rejected": [item.model_dump(mode="json") for item in rejected],
            }
        )
    elif args.mermaid:
        sys.stdout.write(ancestry.mermaid(artifacts, rejected))
    else:
        from pipeline.reports import page_text

        page_text.show_lineage(artifacts, rejected)
    return 0
