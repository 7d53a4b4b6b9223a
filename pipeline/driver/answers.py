"""Answers that evaluations have paid for: where they lie, and which of them nobody will ask for again.

Here: the folder, which models a file's answers are of, taking files away. Not here: what an answer is (eval), the form of a file
(interlock/journal.py), when the store is cleaned (gc.py).
A file is named by the digest of everything that its answers depend on, and its first record names the models, or, of one that has
no contract (an endpoint), the dataset that it was asked. While one of these can still be asked, because it lies in an output, in an
output's history or in the store beside what was made of it, its answers spare the asking and stay.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from interlock import journal
from interlock.contracts.io import open_regular
from interlock.errors import ContractError
from pipeline.driver.store import Store, age_s, project_folder

ABOUT = "about"


def file_of(run: str) -> Path:
    """Where the answers of a run are kept."""
    return project_folder() / "answers" / f"{run}.jsonl"


def describe(kept: journal.Journal, run: str, models: Sequence[str]) -> None:
    """Says once whose answers follow. models: digests of their contracts; of a model without one, of the dataset."""
    if ABOUT not in kept:
        kept.add(ABOUT, {"run": run, "models": list(models)})


def take(store: Store, folder: Path, living: set[str], keep_s: float, max_bytes: int | None, *, dry_run: bool) -> tuple[list[dict[str, Any]], int]:
    """Remove files that are older than `keep_s` and not of a model in `living`; then the oldest, whoever gave them, until all take `max_bytes`.

    Returns what was, or in a dry run would be, removed, and the bytes that stay. A file that is being written stays.
    """
    found = []
    for path in sorted(folder.glob("*.jsonl")):
        with contextlib.suppress(FileNotFoundError):
            found.append((age_s(path), path.lstat().st_size, path))
    total, taken = sum(size for _, size, _ in found), []
    for age, size, path in sorted(found, reverse=True):
        over = max_bytes is not None and total > max_bytes
        if (over or (age > keep_s and not _models(path) & living)) and _gone(store, path, dry_run=dry_run):
            taken.append({"run": path.stem, "bytes": size})
            total -= size
    return taken, total


def _models(path: Path) -> set[str]:
    """Nothing where the file does not say: then nobody can tell that it is still of use."""
    with contextlib.suppress(ContractError, FileNotFoundError):
        first = next(journal.records(path), {})
        if first.get("key") == ABOUT:
            return {str(one) for one in first["models"]}
    return set()


def _gone(store: Store, path: Path, *, dry_run: bool) -> bool:
    """Whether it was, or would be, removed: under its lock, which an evaluation has while it writes."""
    try:
        with open_regular(path) as held:
            fcntl.flock(held.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not dry_run:
                store.fs.unlink(path)
            return True
    except (OSError, ContractError):
        return False
