"""Output directories: copies of stored artifacts where a person wants them, replaced whole, remembered, and taken back.

Here: the record of what was placed where, the check that it still lies there, placing, the history behind `interlock rollback`. Not here: what
is placed (build.py), how a directory is replaced (interlock/fs.py).
A record is `.interlock/outputs/<name>.json`, the name a digest of the output's path within the project. Losing it costs reading the output once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from interlock import fs
from interlock.errors import ContractError, StageFailed, UsageError
from pipeline.driver import index, records
from pipeline.driver.store import Lease, Store

if TYPE_CHECKING:
    from interlock.contracts.base import Kind

# Earlier states of one output that can be taken back, and that the cleaner therefore keeps.
KEPT = 5


@dataclass(frozen=True)
class Outputs:
    """The records of one project folder."""

    folder: Path
    store: Store

    def _file(self, out: Path) -> Path:
        # Relative to the project, so that a moved clone knows its outputs.
        name = os.path.relpath(out.absolute(), self.folder.parent)
        return self.folder / "outputs" / f"{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:24]}.json"

    def record(self, out: Path) -> dict[str, Any]:
        """What was placed at `out`; empty where nothing is known."""
        return records.load(self._file(out))

    def records(self) -> Iterator[dict[str, Any]]:
        for file in sorted((self.folder / "outputs").glob("*.json")):
            if document := records.load(file):
                yield document

    def digests(self) -> set[str]:
        """What lies in outputs, and what can be taken back."""
        return {digest for record in self.records() for digest in (record["digest"], *(entry["digest"] for entry in record.get("history", [])))}

    def in_place(self, out: Path, digest: str, *, paranoid: bool = False) -> bool:
        """Whether `out` is the artifact `digest`, every byte: by size, times and inode where those are the recorded ones, else by reading it.

        `paranoid` reads it in any case."""
        record, now = self.record(out), time.time_ns()
        try:
            stats = _stats(out)
        except OSError:
            return False
        if not paranoid and record.get("digest") == digest and record.get("settled") and stats == record["stats"]:
            return True
        if not _is(out, digest):
            return False
        with contextlib.suppress(StageFailed):  # where nothing can be written, it is read again next time
            fs.sweep(self.store.fs, out)  # of a build that was killed between publishing and its record
            # What was seen before it was read: another build may have replaced it since.
            self._write(out, digest, record, stats, settled=_settled(stats, now))
        return True

    def check(self, out: Path, kind: str) -> None:
        """Refuse a place that no artifact of `kind` can be put in. Raises UsageError and StageFailed."""
        place = Path(os.path.realpath(out))  # as resolve(), which in Python 3.11 raises for a link to itself
        for folder in (Path(os.path.realpath(self.folder)), Path(os.path.realpath(self.store.root))):
            if folder == place or folder in place.parents:
                raise UsageError(f"`{out}` lies inside `{folder}`, which is interlock's own", remedy="choose another output, by --set output=FOLDER")
        from interlock.contracts import io
        from pipeline.driver.stage import is_ours

        fs.check_replaceable(out, lambda path: is_ours(path, cast("Kind", kind)) or _remains(path, self.record(out).get("stats", {})))
        if outer := next((folder for folder in place.parents if io.kind_of(folder)), None):
            raise UsageError(f"`{out}` lies inside `{outer}`, which is an artifact itself", remedy="choose another output, by --set output=FOLDER")

    def place(self, out: Path, digest: str, lease: Lease) -> None:
        """Make `out` a copy of the stored artifact `digest`. Raises StageFailed and UsageError, and then leaves what was there."""
        source = lease.hold(digest)
        if source is None:
            raise StageFailed(f"the store no longer has {digest[:16]}", remedy="run the same command again; it is made anew")
        from interlock.contracts import io

        kind = io.kind_of(source)
        assert kind is not None
        before = self.record(out)
        self.check(out, kind)
        fs.require_space(out, sum(path.stat().st_size for path in source.rglob("*")) + (1 << 20))
        with fs.workspace(out, self.store.fs) as work:
            for child in sorted(source.iterdir()):
                work.copy(child, child.name)
            if not _is(work.path, digest):
                raise StageFailed(f"the copy of {digest[:16]} for `{out}` is not what was stored", remedy="run `interlock fsck`, then this again")
            made = _lasting(_stats(work.path))
            fs.publish(work, out)
        now = time.time_ns()
        stats: dict[str, list[int]] = {}
        with contextlib.suppress(OSError):
            stats = _stats(out)
        # Another build may have replaced it since, or a person edited it: then the record must not vouch for what lies there now.
        self._write(out, digest, before, stats, settled=_lasting(stats) == made and _settled(stats, now))

    def _write(self, out: Path, digest: str, before: dict[str, Any], stats: dict[str, list[int]], *, settled: bool) -> None:
        """Replace the record `before`; what it said to lie there is history from now on, also where its own build was killed before it said so."""
        history = [entry for entry in before.get("history", []) if entry["digest"] not in (digest, before["digest"])]
        if before.get("digest") not in (None, digest):
            history = [{"digest": before["digest"], "until_unix_s": int(time.time())}, *history]
        document = {
            "path": os.path.relpath(out.absolute(), self.folder.parent),
            "digest": digest,
            "stats": stats,
            "settled": settled,
            "history": history[:KEPT],
        }
        records.save(self._file(out), document, self.store.fs)

    def rollback(self, out: Path, wanted: str | None, lease: Lease) -> str:
        """Put an earlier state of `out` back: the last one, or the one whose digest begins with `wanted`. Returns its digest.

        Raises UsageError where there is none, StageFailed where the store no longer has it.
        """
        history = self.record(out).get("history", [])
        chosen = next((entry["digest"] for entry in history if wanted is None or entry["digest"].startswith(wanted)), None)
        if chosen is None:
            known = ", ".join(entry["digest"][:16] for entry in history) or "none"
            raise UsageError(f"`{out}` has no such earlier state", remedy=f"known are: {known}")
        if not self.store.sound(chosen):
            raise StageFailed(f"the store no longer has {chosen[:16]} whole", remedy="run `interlock fsck --repair`, or build it again")
        self.place(out, chosen, lease)
        return str(chosen)


def _is(directory: Path, digest: str) -> bool:
    from interlock.contracts import io

    try:
        kind = io.kind_of(directory)
        return kind is not None and io.read_artifact(directory, io.KINDS[kind][1]).digest == digest
    except (ContractError, OSError):  # OSError: a name that is too long, a folder that may not be read
        return False


def _settled(stats: dict[str, list[int]], now_ns: int) -> bool:
    return all(index.settled((size, modified, changed, inode), now_ns) for size, modified, changed, inode in stats.values())


def _lasting(stats: dict[str, list[int]]) -> dict[str, tuple[int, int, int]]:
    """What publication leaves of them: it sets modes, which moves the time of change."""
    return {name: (size, modified, inode) for name, (size, modified, _, inode) in stats.items()}


def _remains(out: Path, placed: dict[str, list[int]]) -> bool:
    """Whether `out` is what was placed there, though damaged: no other names, plain files all, and at least one that nobody has touched."""
    with contextlib.suppress(OSError):
        found = _stats(out)
        plain = all(stat.S_ISREG((out / name).lstat().st_mode) for name in found)
        return plain and found.keys() <= placed.keys() and any(placed[name] == seen for name, seen in found.items())
    return False


def _stats(directory: Path) -> dict[str, list[int]]:
    """What changes when a file does, for each file under `directory`, without reading one. Raises OSError."""
    found: dict[str, list[int]] = {}
    waiting = [(str(directory), "")]
    while waiting:
        folder, prefix = waiting.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, f"{prefix}{entry.name}/"))
                else:
                    status = entry.stat(follow_symlinks=False)
                    found[prefix + entry.name] = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    return found
