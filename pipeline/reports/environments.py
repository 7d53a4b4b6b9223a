"""Environments on a terminal: the list, one of them, the proof of what is installed.

Here: tables. Not here: what they say (pipeline/verbs/env, pipeline/installed).
"""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from interlock.environments import ROOT
from interlock.voice import human, plain
from pipeline.installed.differences import Proof
from pipeline.reports.terminal import box, cell, console, grid, mark

# An environment that is all wrong has a line for each of its files: those that are not shown are in the document of --json.
SHOWN = 50


def show_list(rows: list[dict[str, Any]]) -> None:
    table = Table(box=box())
    for name in ("environment", "Python", "interpreter", "packages", "", "lock", "size"):
        table.add_column(name, justify="right" if name in ("packages", "size") else "left", overflow="fold")
    for row in rows:
        said = (row["name"], row["requires_python"], row["python"] or "none", row["packages"] or "", row["state"], row["lock_digest"][:16])
        table.add_row(*map(cell, (*said, _size(row["size_bytes"]))))
    console().print(table)


def show_one(document: dict[str, Any]) -> None:
    out = console()
    out.print(Text(plain(document["name"]), style="bold"))
    python = f"{document['requires_python']}, here {document['python'] or 'none'}"
    facts = [
        ("definition", _short(document["definition"])),
        ("Python", python),
        ("interpreter", document["interpreter"] or "none"),
        ("state", document["state"]),
        ("lock", f"{_short(document['lock'])}  {document['lock_digest'][:16]}"),
        ("systems", ", ".join(document["systems"])),
        ("stages", ", ".join(document["stages"])),
        ("verbs", ", ".join(document["verbs"])),
        ("size", _size(document["size_bytes"])),
    ]
    out.print(grid(facts))
    table = Table(box=box())
    for name in ("package", "asked for", "locked", "installed", "size"):
        table.add_column(name, justify="right" if name == "size" else "left", overflow="fold")
    for row in document["packages"]:
        said = (row["name"], row["asked"] or "", row["locked"] or "not locked", row["installed"] or "not installed", _size(row["size_bytes"]))
        table.add_row(*map(cell, said))
    out.print(table)


def show_proof(name: str, proof: Proof) -> None:
    out = console()
    wrong = len(proof.differences)
    verdict = f"differs from its lock, places: {wrong}" if wrong else "is what its lock says"
    out.print(mark(not wrong), Text(f"{name}: {verdict}; {proof.dists} packages, {proof.files} files, {_size(proof.size_bytes)}", style="bold"))
    for guest in proof.guests:
        out.print(Text(plain(f"  beside the lock: {guest.name} {guest.version}, which offers stages or gates"), style="yellow"))
    for one in proof.differences[:SHOWN]:
        out.print(Text(plain(f"  {_short(one.where)}")))
        out.print(Text(plain(f"    expected {one.expected}, found {one.found}"), style="dim"))
    if wrong > SHOWN:
        out.print(Text(f"  … and {wrong - SHOWN} more (--json has all)"))


def _size(size_bytes: int | None) -> str:
    return "" if size_bytes is None else human(size_bytes, "B")


def _short(path: str) -> str:
    """A path as it is read from the project's folder."""
    return path.removeprefix(f"{ROOT}/")
