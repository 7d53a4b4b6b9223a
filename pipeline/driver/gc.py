"""Cleaning: what nobody needs leaves the store; what a living builder, an output or its history names stays.

Here: what is a root, what goes, in which order. Not here: checking what stays (fsck.py), answers of evaluations (answers.py).
Roots: the objects that outputs lie for and can be rolled back to, everything these were made from as far as it is there, and what living builders
hold. Beside the roots everything stays that is younger than the age given, and the youngest up to the size given.
Nothing is taken from a builder: claims are read while the store's gate is closed to new ones, and an object leaves by one rename.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interlock import fs
from interlock.calls import claimed
from interlock.errors import ContractError
from interlock.locks import Lock
from pipeline.driver import answers
from pipeline.driver.outputs import Outputs
from pipeline.driver.store import Store, age_s, leased

# An object that has just come may not be in any output yet: its builder's lease protects it, this protects what a killed builder left for its rerun.
GRACE_S = 3600.0
TEMPORARY_S = 60.0
# Objects taken in one closing of the gate: builders wait for no longer than that takes.
BATCH = 16


@dataclass
class Taken:
    """What was, or in a dry run would be, removed; sizes in bytes. `kept` objects remain, `kept_bytes` of them;
    `answers_bytes` of answers."""

    objects: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    states: list[dict[str, Any]] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    leftovers: int = 0
    locks: int = 0
    kept: int = 0
    kept_bytes: int = 0
    answers_bytes: int = 0

    @property
    def freed_bytes(self) -> int:
        return sum(entry["bytes"] for entry in (*self.objects, *self.rejected, *self.states, *self.answers))


def collect(
    store: Store, outputs: Outputs, *, keep_s: float = GRACE_S, max_bytes: int | None = None, max_answers: int | None = None, dry_run: bool = False
) -> Taken:
    """Remove what no root reaches and what is older than `keep_s`, and of younger ones the oldest beyond `max_bytes`. Raises StageFailed.

    Answers of evaluations go with the models that gave them, and, oldest first, whatever is beyond `max_answers` bytes.

    Actions stay: they are small, and a key whose object is gone is known without making it again.
    """
    if not store.root.is_dir():
        return _without_answers(Taken(), store, outputs, keep_s, max_answers, dry_run)
    store.prepare()  # folders that were lost
    with Lock(store.root / "locks" / "collector").held():
        return _without_answers(_collected(store, outputs, keep_s, max_bytes, dry_run), store, outputs, keep_s, max_answers, dry_run)


def _without_answers(taken: Taken, store: Store, outputs: Outputs, keep_s: float, max_bytes: int | None, dry_run: bool) -> Taken:
    gone = {entry["digest"] for entry in taken.objects}
    living = (outputs.digests() | {path.name for path in _objects(store)}) - gone
    folder = outputs.folder / "answers"
    taken.answers, taken.answers_bytes = answers.take(store, folder, living, keep_s, max_bytes, dry_run=dry_run)
    return taken


def _collected(store: Store, outputs: Outputs, keep_s: float, max_bytes: int | None, dry_run: bool) -> Taken:
    taken = Taken()
    found = []
    for path in _objects(store):
        with contextlib.suppress(FileNotFoundError):  # a builder found it damaged and took it away
            found.append((path, age_s(path), _size(path)))
    roots = _reach(store, outputs.digests())
    total = sum(size for _, _, size in found)
    candidates: list[tuple[Path, int]] = []
    for path, age, size in sorted(found, key=lambda one: -one[1]):
        over = max_bytes is not None and total > max_bytes
        if path.name not in roots and (age > keep_s or over):
            candidates.append((path, size))
            total -= size
    removed = _take_objects(store, outputs, candidates, dry_run)
    taken.objects = [{"digest": path.name, "bytes": size} for path, size in candidates if path.name in removed]
    taken.kept, taken.kept_bytes = len(found) - len(taken.objects), sum(s for _, _, s in found) - sum(entry["bytes"] for entry in taken.objects)
    taken.rejected = _take_old(store, "rejected", keep_s, dry_run)
    taken.states = _take_old(store, "state", keep_s, dry_run)
    taken.leftovers = len(take_leftovers(store, dry_run=dry_run))
    if not dry_run:
        _take_locks(store, taken)
    return taken


def _objects(store: Store) -> Iterator[Path]:
    for path in sorted((store.root / "objects").glob("??/*")):
        with contextlib.suppress(FileNotFoundError):
            if path.is_dir() and fs.PARTIAL not in path.name:
                yield path


def _reach(store: Store, digests: Iterable[str]) -> set[str]:
    """`digests` and everything that their contracts name as inputs, as far as the store has them."""
    from interlock.contracts import io

    found: set[str] = set()
    waiting = list(digests)
    while waiting:
        digest = waiting.pop()
        path = store.find(digest)
        if digest in found or path is None:
            continue
        found.add(digest)
        kind = io.kind_of(path)
        with contextlib.suppress(ContractError):
            if kind is not None:
                waiting += [ref.digest for ref in io.read_contract(io.contract_path(path, kind), io.KINDS[kind][1]).inputs]
    return found


def _take_objects(store: Store, outputs: Outputs, candidates: list[tuple[Path, int]], dry_run: bool) -> set[str]:
    removed: set[str] = set()
    for start in range(0, len(candidates), BATCH):
        batch = [path for path, _ in candidates[start : start + BATCH]]
        with store.gate(shared=False).held():
            held = leased(store) | outputs.digests()
            free = [path for path in batch if path.name not in held]
            moved = [] if dry_run else [_aside(store, path) for path in free]
        # On disk too an object leaves before its files do: a power cut must not leave a part of one in its place.
        for folder in {path.parent for path in free} if moved else ():
            store.fs.fsync(folder)
        for path in filter(None, moved):
            with contextlib.suppress(FileNotFoundError):  # a check with repair removes it as well
                fs.remove_tree(store.fs, path)
        removed |= {path.name for path in free}
    return removed


def _aside(store: Store, path: Path) -> Path | None:
    """Take an object away by one rename; what is killed between this and its removal is removed by the next run."""
    target = store.root / "work" / f"{path.name}{fs.PARTIAL}{secrets.token_hex(4)}"
    with contextlib.suppress(FileNotFoundError):
        store.fs.rename(path, target)
        return target
    return None


def _take_old(store: Store, part: str, keep_s: float, dry_run: bool) -> list[dict[str, Any]]:
    """What a key left behind beside its artifact and nobody came back to: refused candidates, states of runs that were killed."""
    taken = []
    for path in sorted((store.root / part).glob("*")):
        with contextlib.suppress(FileNotFoundError):  # replaced by a builder at this moment
            # A running training writes into folders below, whose change its own folder does not show.
            if path.is_dir() and fs.PARTIAL not in path.name and min(map(age_s, (path, *path.rglob("*")))) > keep_s:
                taken.append({"key": path.name, "bytes": _size(path)})
                if not dry_run:
                    fs.remove_tree(store.fs, path)
    return taken


def take_leftovers(store: Store, *, dry_run: bool) -> list[Path]:
    """Remove folders of killed builders (their kernel lock is free) and files that they were writing. Returns what was, or would be, removed."""
    found = []
    for path in leftovers(store):
        # Removed while it is claimed: a builder that has just made it finds it taken, and makes another.
        with claimed(path) as free:
            if free:
                found.append(path)
                if not dry_run:
                    fs.remove_tree(store.fs, path)
    for path in temporaries(store):
        found.append(path)
        if not dry_run:
            with contextlib.suppress(FileNotFoundError):
                store.fs.unlink(path)
    return found


def _take_locks(store: Store, taken: Taken) -> None:
    """Lock files that nobody holds."""
    for path in sorted((store.root / "locks").glob("*")):
        lock = Lock(path)
        if path.name not in ("gc", "collector") and lock.attempt():
            with contextlib.suppress(FileNotFoundError):
                store.fs.unlink(path)
            lock.release()
            taken.locks += 1


def leftovers(store: Store) -> list[Path]:
    """Folders in which a stage works, or worked when it was killed."""
    return sorted(path for part in ("work", "rejected") for path in (store.root / part).glob(f"*{fs.PARTIAL}*") if path.is_dir())


def temporaries(store: Store) -> list[Path]:
    """Files that were being written when their writer was killed: a living one needs milliseconds."""
    found = [path for pattern in (f"*/*{fs.PARTIAL}*", f"*/*/*{fs.PARTIAL}*") for path in sorted(store.root.glob(pattern))]
    old = []
    for path in found:
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and age_s(path) > TEMPORARY_S:
                old.append(path)
    return old


def _size(path: Path) -> int:
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                total += (Path(folder) / name).lstat().st_size
    return total


def stored_bytes(store: Store) -> int:
    """What the objects take on disk, by the sum of their files' sizes."""
    return sum(_size(path) for path in _objects(store))
