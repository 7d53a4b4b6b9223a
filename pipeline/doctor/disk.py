"""Disks: room for environments and builds, and what the file system of the store can do.

Here: what is free, and calls tried in a folder beside the store, those with which builds publish; it is removed at once. Not here: what lies in the
store (store.py), in images (launchers.py).
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from interlock import fs, generations
from interlock.environments import Environment
from interlock.voice import human
from pipeline.doctor.finding import Finding, info, warning
from pipeline.doctor.place import LOCAL, Place, free_bytes

# Both environments with torch's CUDA libraries, which they share by hard links; the second alone.
ENVIRONMENT_BYTES = {2: 7 << 30, 1: 5 << 30}
# A build of a small student: checkpoint, export, two packages, a deployment that holds copies, and as much in its outputs.
BUILD_BYTES = 4 << 30
NETWORKED = ("nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "lustre", "afs", "beegfs", "gpfs", "fuse.sshfs", "fuse.glusterfs", "virtiofs")
# linux/fiemap.h: whether the first extent of a file is shared with another.
_FIEMAP, _SHARED, _SYNC = 0xC020660B, 0x2000, 0x1


def space(place: Place) -> Iterator[Finding]:
    """Room for environments that are not made yet, and for a build."""
    unmade = [env.name for env in place.environments().values() if not _is_made(env)]
    if unmade and place.launcher in LOCAL:
        yield _room(place.root, ENVIRONMENT_BYTES[min(len(unmade), 2)], f"environments {' and '.join(unmade)}, not yet made", "uv cache prune")
    yield _room(_existing(place.store.root), BUILD_BYTES, "a build in the store and in its outputs", "interlock gc --keep 7d")


def _is_made(env: Environment) -> bool:
    return (env.folder / ".venv" / ".synced").is_file()


def _room(folder: Path, needed: int, what: str, remedy: str) -> Finding:
    free = free_bytes(folder)
    if free >= needed:
        return info(f"{human(free, 'B')} free for {what}", str(folder))
    expected = f"about {human(needed, 'B')}"
    return warning(f"{human(free, 'B')} free for {what}", expected=expected, remedy=f"{remedy}, or use a larger file system", evidence=str(folder))


def file_system(place: Place) -> Iterator[Finding]:
    """What publication rests on: locks, the exchange of two directories, copies that share blocks."""
    folder = _existing(place.store.root)
    kind, mount = _mounted(folder)
    with fs.workspace(folder / "doctor") as work:  # holds a kernel lock on it, as every builder does
        exchanges = generations.can_exchange(work.fs, work.path)
        shares = _shares(work)
    told = f"{kind or 'a file system'}: " + (f"exchanges directories, {'shares' if shares else 'does not share'} the blocks of copies")
    if kind in NETWORKED:
        yield warning(
            f"the store is on a network file system ({kind})",
            expected="a local one: kernel locks and the order of writes are only as good as the server",
            remedy="export INTERLOCK_STORE=/a/local/folder",
            evidence=f"{folder} on {mount}",
        )
    elif exchanges:
        yield info(told, f"tried in {folder}")
    if not exchanges:
        yield info(f"{kind or 'the file system'} cannot exchange directories: outputs become links to generations", f"renameat2 in {folder}")


def _shares(work: fs.Workspace) -> bool:
    """Whether a copy as the store makes it takes no new blocks, asked of the kernel."""
    first = work.write("one", os.urandom(1 << 20))
    second = work.copy(first, "other")
    work.fs.fsync(second)
    with second.open("rb") as file:
        asked = bytearray(struct.pack("=QQLLLL", 0, 1 << 20, _SYNC, 0, 1, 0) + bytes(56))
        try:
            fcntl.ioctl(file, _FIEMAP, asked)
        except OSError:  # no such call here, or no extents (tmpfs)
            return False
    flags = struct.unpack_from("=L", asked, 32 + 40)[0]
    return bool(flags & _SHARED)


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def _mounted(folder: Path) -> tuple[str, str]:
    """The kind of the file system and where it is mounted; empty where the machine does not say."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return "", ""
    found = [(len(words[1]), words[2], words[1]) for words in (line.split(" ") for line in lines) if folder.resolve().is_relative_to(words[1])]
    return max(found)[1:] if found else ("", "")
