"""Publishing where two directories cannot be exchanged: `out` is a link to its newest generation, and a fresh link replaces it by one rename.

Here: the layout, replacing, the one turn of a plain directory into a link, finishing a turn that was interrupted. Not here: when (fs.py).

    out -> .out.generations/<id>    relative, so that the folder can be moved with what is in it
    .out.generations/<id>/          the artifact directory
    .out.generations/<id>.link      a fresh link, until it replaces `out`
    .out.generations/<id>.turn      what stood in the plain directory `out` when its turn began: size and time of every file, as JSON
    .out.generations/<id>.old       that directory

A link cannot replace a directory by rename, so the turn has a moment in which `out` is absent (two renames) or, where the directory cannot even be
renamed (of a container's lower layer: EXDEV), emptied. Whoever builds for `out` next finishes it: the new generation was whole on disk before.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
from pathlib import Path
from typing import Any

from interlock.calls import Fs, claimed, remove_tree

# What a file system, a C library or an overlay says when it cannot exchange.
CANNOT_EXCHANGE = frozenset((errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EXDEV))
_ID = re.compile(r"[0-9a-f]{8}")


def _folder(out: Path) -> Path:
    return out.with_name(f".{out.name}.generations")


def current(out: Path, link: Path | None = None) -> str | None:
    """The id of the generation that `out`, or a `link` beside it, names; None where it is no link of ours."""
    with contextlib.suppress(OSError):
        text = (link or out).readlink()
        if str(text.parent) == _folder(out).name and _ID.fullmatch(text.name):
            return text.name
    return None


def can_exchange(fs: Fs, folder: Path) -> bool:
    """Whether the file system of `folder`, a directory of ours, exchanges directories: tried with two."""
    one, other = folder / ".one", folder / ".other"
    fs.mkdir(one)
    fs.mkdir(other)
    try:
        fs.exchange(one, other)
    except OSError as error:
        if error.errno not in CANNOT_EXCHANGE:
            raise
        return False
    finally:
        fs.rmdir(one)
        fs.rmdir(other)
    return True


def replace(fs: Fs, path: Path, out: Path) -> None:
    """Make the synced directory `path` the newest generation of `out`. Its lock, which the builder holds, moves with it."""
    folder = _folder(out)
    generation = folder / secrets.token_hex(4)
    if not folder.is_dir():
        fs.mkdir(folder)
    fs.rename(path, generation)
    link = generation.with_suffix(".link")
    fs.symlink(f"{folder.name}/{generation.name}", link)
    fs.fsync(folder)
    fs.fsync(out.parent)
    if out.is_dir() and not out.is_symlink():
        _turn(fs, link, out)
    else:
        fs.rename(link, out)
    fs.fsync(folder)


def _turn(fs: Fs, link: Path, out: Path) -> None:
    record, old = link.with_suffix(".turn"), link.with_suffix(".old")
    fs.write(record, json.dumps(_standing(out)).encode())
    fs.fsync(record)
    fs.fsync(record.parent)
    try:
        _clear(fs, out, old)
    except OSError:
        if _explains(record, out) and _standing(out):
            fs.unlink(record)  # nothing has begun
        raise
    try:
        fs.rename(link, out)
    except OSError:
        if old.exists():
            fs.rename(old, out)
            fs.unlink(record)
        raise
    fs.fsync(out.parent)
    fs.unlink(record)


def _clear(fs: Fs, out: Path, old: Path) -> None:
    try:
        fs.rename(out, old)
    except FileNotFoundError:
        pass  # another builder's turn was a moment earlier
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.ENOTEMPTY, errno.EEXIST):
            raise
        remove_tree(fs, out)


def _standing(out: Path) -> dict[str, list[int]]:
    found = {}
    for path in out.rglob("*"):
        status = path.lstat()
        if not path.is_dir() or path.is_symlink():
            found[path.relative_to(out).as_posix()] = [status.st_size, status.st_mtime_ns]
    return found


def _explains(record: Path, out: Path) -> bool:
    """Whether the interrupted turn accounts for all that stands at `out`, so that removing it loses nothing."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        return False
    try:
        before: dict[str, Any] = json.loads(record.read_bytes())
        return all(before.get(name) == status for name, status in _standing(out).items())
    except (OSError, ValueError, AttributeError):
        return False  # torn: it was flushed before the turn began, so there was none


def interrupted(out: Path) -> bool:
    """Whether what stands at `out` is left of a turn that the next builder will finish."""
    return any(_explains(record, out) for record in _folder(out).glob("*.turn"))


def finish(fs: Fs, out: Path) -> None:
    """Finish a turn whose builder died in it, then remove every generation that `out` does not name and that nobody holds."""
    folder = _folder(out)
    if folder.is_symlink() or not folder.is_dir():
        return
    for record in sorted(folder.glob("*.turn")):
        with claimed(record.with_suffix("")) as free:
            if not free:
                continue
            link = record.with_suffix(".link")
            if link.is_symlink() and _explains(record, out):
                if out.exists():
                    _clear(fs, out, record.with_suffix(".old"))
                fs.rename(link, out)
                fs.fsync(out.parent)
            fs.unlink(record)
    for name in sorted({child.name.partition(".")[0] for child in folder.iterdir()}):
        if _ID.fullmatch(name):
            _retire(fs, folder / name, out)
    if current(out) is None and not any(folder.iterdir()):
        fs.rmdir(folder)


def _retire(fs: Fs, generation: Path, out: Path) -> None:
    with claimed(generation) as free:
        if (generation.exists() and not free) or generation.with_suffix(".turn").exists():
            return
        # Asked under the lock: its builder may have made it the current one a moment ago.
        for suffix in (".old",) if current(out) == generation.name else (".old", ".link", ""):
            left = generation.with_suffix(suffix)
            if os.path.lexists(left):
                remove_tree(fs, left)
