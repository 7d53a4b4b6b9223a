"""The store: what was left in it, and how much it holds.

Here: quick looks. Not here: reading it (`interlock fsck`), cleaning it (`interlock gc`), its file system (disk.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from interlock.voice import human
from pipeline.doctor.finding import Finding, error, info, warning
from pipeline.doctor.place import Place
from pipeline.driver import gc
from pipeline.driver.store import FORM, PARTS

# Walking a large store may take longer; what was seen until then is told.
WALK_S = 1.5


def contents(place: Place) -> Iterator[Finding]:
    """What lies in the store that should be looked at, and how much it holds."""
    root = place.store.root
    if not root.is_dir():
        yield info("there is no store yet: the first build makes it", str(root))
        return
    if unusable := [part for part in ("", *PARTS) if (root / part).is_dir() and not os.access(root / part, os.R_OK | os.W_OK | os.X_OK)]:
        yield error(
            f"the store cannot be used: no right to {', '.join(part or 'its folder' for part in unusable)}",
            expected="a folder that you may read and write",
            remedy=f"sudo chown -R $(id -un) {root}, or export INTERLOCK_STORE=/another/folder",
            evidence=str(root),
        )
        return
    form = _text(root / "form")
    if form not in ("", FORM):
        yield error(
            f"the store has form `{form[:20]}`",
            expected=f"`{FORM}`",
            remedy="use the interlock that made it, or export INTERLOCK_STORE=/another/folder",
            evidence=str(root / "form"),
        )
    yield from _quarantine(root)
    yield from _leases(root)
    if left := gc.take_leftovers(place.store, dry_run=True):
        yield info(f"{len(left)} folders and files of killed builders: the next build or `interlock gc` takes them", str(left[0]))
    yield _size(root)


def _quarantine(root: Path) -> Iterator[Finding]:
    damaged = sorted(path for path in (root / "quarantine").glob("*") if path.suffix != ".json")
    if damaged:
        yield warning(
            f"{len(damaged)} damaged things in quarantine",
            expected="none: what is damaged has a cause, often the disk",
            remedy=f"read the reasons (cat {root / 'quarantine'}/*.json), run `interlock fsck`, then rm -r {root / 'quarantine'}",
            evidence=str(damaged[0]),
        )


def _leases(root: Path) -> Iterator[Finding]:
    """Leases are files under a kernel lock: one that nobody holds was left by a builder that was killed."""
    held, left = 0, 0
    for path in (root / "leases").glob("*.alive"):
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left += 1
            except OSError:
                held += 1
            finally:
                os.close(descriptor)
    if held:
        yield info(f"{held} builds are running", str(root / "leases"))
    if left:
        yield info(f"{left} leases of killed builders, which hold nothing: `interlock gc` takes them", str(root / "leases"))


def _size(root: Path) -> Finding:
    until, total, objects = time.monotonic() + WALK_S, 0, 0
    for folder, _, files in os.walk(root / "objects"):
        objects += len(Path(folder).relative_to(root / "objects").parts) == 2
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                total += (Path(folder) / name).lstat().st_size
        if time.monotonic() > until:
            return info(f"more than {objects} artifacts of {human(total, 'B')} (`interlock status` counts all)", str(root))
    return info(f"{objects} artifacts, {human(total, 'B')} (`interlock fsck` reads every byte)", str(root))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="backslashreplace").strip()
    except OSError:
        return ""
