"""The store: finished artifacts by the digest of their contract, and what each stage key made, for any number of builders at once.

Here: the folder's layout, insertion, lookup, leases, quarantine. Not here: when something is needed (build.py), cleaning (gc.py), checking (fsck.py).

    objects/<dd>/<digest>/   an artifact directory, files read-only; it comes by one rename and never changes
    actions/<kk>/<key>.json  the preimage of a key, what it made, how long that took; the newest of equal keys stays
    details/<digest>.json    what a preimage names by digest only: the definitions of a source closure, the packages of a lock
    rejected/<key>/          a candidate that its gate refused, with the evidence
    quarantine/              what was found damaged, with the reason; nothing is ever deleted for being damaged
    work/                    folders of stages that run; one of a dead builder is removed by the next that looks
    leases/, locks/          kernel locks of living builders: a killed one leaves nothing to unlock

An object is found by existence, which says that it was whole when it came; who uses its bytes checks them first (`Store.sound`).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interlock import fs
from interlock.calls import Fs
from interlock.errors import ContractError, StageFailed
from interlock.locks import Lock
from pipeline.driver import records

FORM = "1"
FOLDER = ".interlock"
PARTS = ("objects", "actions", "details", "rejected", "quarantine", "work", "leases", "locks")


def project_folder() -> Path:
    """Where a project keeps what its builds leave: `$INTERLOCK_HOME`, or `.interlock` in the current folder."""
    return Path(os.environ.get("INTERLOCK_HOME") or FOLDER).absolute()


@dataclass(frozen=True)
class Store:
    """A store in `root`. Reading verbs make nothing: a store that is not there is empty."""

    root: Path
    fs: Fs = field(default_factory=Fs)

    @staticmethod
    def here() -> Store:
        """`$INTERLOCK_STORE`, or `store` in the project's folder."""
        named = os.environ.get("INTERLOCK_STORE")
        return Store(Path(named).absolute() if named else project_folder() / "store")

    # --- what is there

    def object_path(self, digest: str) -> Path:
        return self.root / "objects" / digest[:2] / digest

    def find(self, digest: str) -> Path | None:
        """The artifact directory of a contract digest, as it lies there: not checked."""
        path = self.object_path(digest)
        return path if path.is_dir() else None

    def action_path(self, key: str) -> Path:
        return self.root / "actions" / key[:2] / f"{key}.json"

    def action(self, key: str) -> dict[str, Any] | None:
        """What a key made, or None. A torn or foreign record is none: the stage runs again."""
        document = records.load(self.action_path(key))
        return document if document.get("key") == key else None

    def actions(self) -> Iterator[dict[str, Any]]:
        """Every readable action."""
        for file in sorted((self.root / "actions").glob("*/*.json")):
            if document := self.action(file.stem):
                yield document

    def rejected_path(self, key: str) -> Path:
        """Where a candidate of `key` that its gate refused is kept."""
        return self.root / "rejected" / key

    def state_path(self, key: str) -> Path:
        """Where a stage that takes long keeps what a killed run of `key` goes on from."""
        return self.root / "state" / key

    def detail(self, digest: str) -> dict[str, Any]:
        """What a preimage names by `digest`; empty where it is gone."""
        return records.load(self.root / "details" / f"{digest}.json")

    # --- writing

    def prepare(self) -> None:
        """Make the folders. Raises StageFailed, also for a store of another form."""
        with fs.named_failures(self.root):
            for part in PARTS:
                fs.make_parents(self.fs, self.root / part)
            form = self.root / "form"
            try:
                found = form.read_text(encoding="ascii", errors="backslashreplace").strip()
            except FileNotFoundError:
                found = ""
            if not found.isdigit():  # none yet, or damaged: what it says of others' stores is a number
                fs.save_file(form, f"{FORM}\n".encode(), self.fs)
                return
        if found != FORM:
            raise StageFailed(
                f"the store `{self.root}` has form {found!r}, this interlock knows {FORM!r}",
                remedy="use the interlock that made it, or name another folder with INTERLOCK_STORE",
            )

    def keep_detail(self, digest: str, make: Callable[[], dict[str, Any]]) -> None:
        path = self.root / "details" / f"{digest}.json"
        if not records.load(path):
            records.save(path, make(), self.fs)

    def record(self, key: str, document: dict[str, Any]) -> None:
        """Say what `key` made. Written last, after the object is there."""
        records.save(self.action_path(key), {"key": key, **document}, self.fs)

    def insert(self, made: Path, digest: str, lease: Lease) -> Path:
        """Move a published artifact directory into the store under its digest. What stands there already stays, if it is sound; it is the same, but
        for who made it, and a reader asks that: the contracts say from now on what the newer maker says."""
        target = self.object_path(digest)
        with fs.named_failures(target):
            lease.hold(digest)
            seen = inode(target)
            if seen is not None and not self.sound(digest):
                self.quarantine(target, "found damaged when the same artifact was made again", seen)
            fs.make_parents(self.fs, target.parent)
            for path in sorted(made.rglob("*")):
                if path.is_file():
                    self.fs.chmod(path, 0o444)  # an object is edited by nobody; copies of it get their own mode
            try:
                self.fs.rename(made, target)
            except OSError:
                if not target.is_dir():
                    raise
                self._renew(made, target)  # another builder was first, or an earlier one made the same
                fs.remove_tree(self.fs, made)
            self.fs.fsync(target.parent)
        return target

    def _renew(self, made: Path, target: Path) -> None:
        """Put the contracts of `made` over those of the equal artifact `target`, each by one rename."""
        from interlock.contracts import io

        for path in sorted(made.iterdir()):
            data = path.read_bytes() if path.name in io.BY_FILE else None
            if data is not None and (target / path.name).read_bytes() != data:
                fs.save_file(target / path.name, data, self.fs)
                self.fs.chmod(target / path.name, 0o444)

    def sound(self, digest: str) -> bool:
        """Whether the object's every byte is what its contract says. Reads all of it."""
        from interlock.contracts import io

        path = self.object_path(digest)
        try:
            kind = io.kind_of(path)
            return kind is not None and io.read_artifact(path, io.KINDS[kind][1]).digest == digest
        except ContractError:
            return False

    def quarantine(self, path: Path, reason: str, seen: int | None) -> Path | None:
        """Move something damaged aside, with the reason beside it. Returns where it is now, or None where it is not there any more.

        seen: its `inode` before it was read. Reading takes long: another builder may have put a whole one in its place since, and that stays.
        """
        target = self.root / "quarantine" / f"{path.name}-{secrets.token_hex(4)}"
        with fs.named_failures(target):
            fs.make_parents(self.fs, target.parent)
            if seen is None or inode(path) != seen:
                return None
            try:
                self.fs.rename(path, target)
            except FileNotFoundError:  # another builder saw it too
                return None
        document = {"was": path.relative_to(self.root).as_posix(), "reason": reason}
        records.save(target.with_name(f"{target.name}.json"), document, self.fs)
        return target

    def lock(self, key: str) -> Lock:
        """The lock of one key: who holds it makes that key's artifact."""
        return Lock(self.root / "locks" / key)

    def gate(self, *, shared: bool) -> Lock:
        """Builders take it shared for the moment in which they claim an object, the cleaner exclusively while it takes some away."""
        return Lock(self.root / "locks" / "gc", shared=shared)

    @contextlib.contextmanager
    def workplace(self, key: str) -> Iterator[Path]:
        """A folder for one run of a stage, on the store's file system; removed afterwards. Those of dead builders are removed first."""
        with fs.workspace(self.root / "work" / key, self.fs) as work:
            yield work.path


def inode(path: Path) -> int | None:
    """What tells something from another that came under its name later; None where there is nothing."""
    with contextlib.suppress(OSError):
        return path.lstat().st_ino
    return None


class Lease:
    """The objects that one living builder uses: a file of digests, held by a kernel lock. The cleaner removes nothing that is named in one."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._digests: set[str] = set()
        self._file = store.root / "leases" / f"{os.getpid()}-{secrets.token_hex(4)}"
        self._alive = Lock(self._file.with_suffix(".alive"))

    def __enter__(self) -> Lease:
        # A cleaner that saw the file before it was locked holds it for a moment, and removes it: then a new one is made.
        while not self._alive.attempt():
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._file, self._alive.path):
            with contextlib.suppress(FileNotFoundError):
                self._store.fs.unlink(file)
        self._alive.release()

    def hold(self, digest: str) -> Path | None:
        """Claim an object; its directory, or None where there is none. From here on no cleaner takes it."""
        if digest not in self._digests:
            with self._store.gate(shared=True).held():
                self._digests.add(digest)
                fs.save_file(self._file, "\n".join(sorted(self._digests)).encode(), self._store.fs)
        return self._store.find(digest)


def leased(store: Store) -> set[str]:
    """The digests that living builders hold; files of dead ones are removed. To be called with the gate held exclusively."""
    held: set[str] = set()
    folder = store.root / "leases"
    for name in sorted({path.name.partition(".")[0] for path in folder.iterdir()}):
        lock = Lock(folder / f"{name}.alive")
        if lock.attempt():
            for file in (*folder.glob(f"{name}{fs.PARTIAL}*"), folder / name, lock.path):
                with contextlib.suppress(FileNotFoundError):
                    store.fs.unlink(file)
            lock.release()
            continue
        with contextlib.suppress(FileNotFoundError):
            held |= set((folder / name).read_text(encoding="ascii").split())
    return held


def age_s(path: Path) -> float:
    """Seconds since something came here, by its own change time; never negative, whatever the clock did."""
    return max(0.0, time.time() - path.stat().st_ctime)
