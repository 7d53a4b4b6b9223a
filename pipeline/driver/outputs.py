"""Output directories: copies of stored artifacts where a person wants them, replaced whole, remembered, and taken back.

Here: the record of what was placed where, the check that it still lies there, placing, the history behind `interlock rollback`. Not here: what
is placed (build.py), how a directory is replaced (interlock/fs.py).
A record is `.interlock/outputs/<name>.json`, the name a digest of the output's path within the project. Losing it costs reading the output once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interlock import fs
from interlock.errors import ContractError, StageFailed, UsageError
from pipeline.driver import index, records
from pipeline.driver.store import Lease, Store

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
        record = self.record(out)
        try:
            if not paranoid and record.get("digest") == digest and record["settled"] and _stats(out) == record["stats"]:
                return True
        except (OSError, KeyError):
            return False
        if not _is(out, digest):
            return False
        with contextlib.suppress(StageFailed):  # where nothing can be written, it is read again next time
            self._write(out, digest, record.get("history", []))
        return True

    def place(self, out: Path, digest: str, lease: Lease) -> None:
        """Make `out` a copy of the stored artifact `digest`. Raises StageFailed and UsageError, and then leaves what was there."""
        if self.store.root in out.absolute().resolve().parents:
            raise UsageError(f"`{out}` lies inside the store", remedy="choose another output in the recipe, or with --set output=FOLDER")
        source = lease.hold(digest)
        if source is None:
            raise StageFailed(f"the store no longer has {digest[:16]}", remedy="run the same command again; it is made anew")
        from interlock.contracts import io
        from pipeline.driver.stage import is_ours

        kind = io.kind_of(source)
        assert kind is not None
        before = self.record(out)
        fs.check_replaceable(out, lambda path: is_ours(path, kind))
        fs.require_space(out, sum(path.stat().st_size for path in source.rglob("*")) + (1 << 20))
        with fs.workspace(out, self.store.fs) as work:
            for child in sorted(source.iterdir()):
                work.copy(child, child.name)
            if not _is(work.path, digest):
                raise StageFailed(f"the copy of {digest[:16]} for `{out}` is not what was stored", remedy="run `interlock fsck`, then this again")
            fs.publish(work, out)
        history = [entry for entry in before.get("history", []) if entry["digest"] != digest]
        if before.get("digest") not in (None, digest):
            history = [{"digest": before["digest"], "until_unix_s": int(time.time())}, *(e for e in history if e["digest"] != before["digest"])]
        self._write(out, digest, history[:KEPT])

    def _write(self, out: Path, digest: str, history: list[dict[str, Any]]) -> None:
        now = time.time_ns()
        stats = _stats(out)
        settled = all(index.settled((size, modified, changed, inode), now) for size, modified, changed, inode in stats.values())
        document = {
            "path": os.path.relpath(out.absolute(), self.folder.parent),
            "digest": digest,
            "stats": stats,
            "settled": settled,
            "history": history,
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
