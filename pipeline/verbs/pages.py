"""The option `--html` and where a page may be written: what `report` and `lineage` share.

Here: the file. Not here: the page (pipeline/reports/page.py).
"""

from __future__ import annotations

import argparse
import contextlib
import os
from pathlib import Path
from typing import Literal

from interlock import fs
from interlock.command import Session
from interlock.contracts import io
from interlock.errors import ContractError, UsageError

# Stands in the head of every page (reports/templates/base.html.j2).
GENERATOR = b'<meta name="generator" content="interlock '


def add_page_option(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument("--html", type=Path, nargs="?", const=True, metavar="FILE",
                        help=f"write one self-contained page too (default `DIRECTORY-{name}.html`, beside the directory)")  # fmt: skip


def page_file(asked: Path | Literal[True], directory: Path, name: str) -> Path:
    """Where the page goes: True stands for beside the directory. To be called before any work.

    Raises UsageError for a place inside an artifact, and for a file that is no page of ours.
    """
    file = asked if isinstance(asked, Path) else directory.absolute().with_name(f"{directory.absolute().name}-{name}.html")
    outside_artifacts(file)
    if file.is_dir():
        raise UsageError(f"`{file}` is a directory", remedy="name a file, `report.html`")
    if not _is_replaceable(file):
        raise UsageError(f"`{file}` is there and is no page of interlock", remedy="choose another name, or remove it yourself")
    return file


def outside_artifacts(place: Path) -> None:
    """Raises UsageError for a place inside an artifact directory, which holds only what its contract lists."""
    inside = next((folder for folder in place.absolute().parents if folder.is_dir() and io.kind_of(folder)), None)
    if inside is not None:
        problem = f"`{place}` lies in the artifact directory `{inside}`"
        raise UsageError(problem, remedy="an artifact holds the files of its contract only: choose another place")


def save_page(file: Path, page: str, session: Session) -> None:
    fs.save_file(file, page.encode())
    session.voice.step(f"wrote {file}")


def _is_replaceable(file: Path) -> bool:
    """Nothing, or a page that one of these verbs wrote."""
    if not os.path.lexists(file):
        return True
    with contextlib.suppress(ContractError), io.open_regular(file) as stream:
        return GENERATOR in stream.read(2048)
    return False
