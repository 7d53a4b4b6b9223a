"""Checking a store: every byte of every object, every record, and what should not be there.

Here: findings, and with `repair` what is done about them. Not here: deciding what is needed (gc.py).
Repair never deletes what was somebody's work: what is damaged moves to the quarantine, and the next build makes it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from interlock import fs
from interlock.errors import ContractError
from pipeline.driver import gc, keys
from pipeline.driver.store import Store, inode


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: where, what, and what repair does (or did)."""

    path: str
    problem: str
    remedy: str
    repaired: bool


def check(store: Store, *, repair: bool = False, progress: Callable[[int], None] | None = None) -> list[Finding]:
    """Everything that is wrong with the store; with `repair` put right. A sound store gives an empty list. `progress` gets bytes read."""
    found: list[Finding] = []
    if not store.root.is_dir():
        return found
    for path, problem, seen in _objects(store, progress):
        if inode(path) != seen:
            continue  # a cleaner took it, or a builder made it again, while it was read
        found.append(Finding(_name(store, path), problem, "moved to the quarantine; the next build that needs it makes it again", repair))
        if repair:
            with store.gate(shared=False).held():
                store.quarantine(path, problem, seen)
    for path, problem in [*_actions(store), *_details(store)]:
        found.append(Finding(_name(store, path), problem, "moved to the quarantine; what it recorded is made again", repair))
        if repair:
            store.quarantine(path, problem, inode(path))
    left = gc.take_leftovers(store, dry_run=not repair)
    return [*found, *(Finding(_name(store, path), "left by a killed builder", "removed", repair) for path in left)]


def _name(store: Store, path: Path) -> str:
    return path.relative_to(store.root).as_posix()


def _objects(store: Store, progress: Callable[[int], None] | None) -> Iterator[tuple[Path, str, int | None]]:
    from interlock.contracts import io

    for path in sorted((store.root / "objects").glob("*/*")):
        seen = inode(path)
        if not path.is_dir() or path.is_symlink() or store.object_path(path.name) != path:
            yield path, "no artifact directory under its digest", seen
            continue
        kind = io.kind_of(path)
        if kind is None:
            yield path, "it has no contract", seen
            continue
        try:
            digest = io.read_artifact(path, io.KINDS[kind][1], progress).digest
        except ContractError as error:
            yield path, "; ".join(f"{Path(v.file).name}: expected {v.expected}, found {v.found}" for v in error.violations[:3]), seen
            continue
        if digest != path.name:
            yield path, f"it is another artifact: {digest}", seen


def _actions(store: Store) -> Iterator[tuple[Path, str]]:
    for file in sorted((store.root / "actions").glob("*/*")):
        if fs.PARTIAL in file.name:
            continue
        action = store.action(file.stem)
        if action is None or store.action_path(file.stem) != file:
            yield file, "no readable record of its key"
        elif keys.key_of(action.get("preimage", {})) != file.stem:
            yield file, "its preimage is that of another key"


def _details(store: Store) -> Iterator[tuple[Path, str]]:
    for file in sorted((store.root / "details").glob("*.json")):
        if not store.detail(file.stem):
            yield file, "no readable JSON"
