"""Inputs that lie: an artifact directory changed in one way, so that a stage that reads it as it should refuses it.

Here: the lies. Not here: what a stage has to make of them (__init__.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from interlock.contracts import io
from interlock.fs import Fs, Workspace, remove_tree


def tell(lie: str, directory: Path) -> bool:
    """Change `directory`, a copy, as `lie` says; False where it has nothing that could be changed so."""
    contract = io.read_any(directory)
    files = [entry.path for entry in contract.files if entry.bytes]
    if not files:
        return False
    LIES[lie](Workspace(directory, Fs()), directory / files[0])
    return True


def _rewrite(work: Workspace, file: Path, data: bytes) -> None:
    work.fs.unlink(file)
    work.fs.write(file, data)


def _flip(work: Workspace, file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    _rewrite(work, file, bytes(data))


def _cut(work: Workspace, file: Path) -> None:
    _rewrite(work, file, file.read_bytes()[:-1])


def _remove(work: Workspace, file: Path) -> None:
    work.fs.unlink(file)


def _add(work: Workspace, file: Path) -> None:
    work.fs.write(work.path / "extra", b"not in the contract")


def _link(work: Workspace, file: Path) -> None:
    data = file.read_bytes()
    elsewhere = work.path.parent / "elsewhere"
    work.fs.write(elsewhere, data)
    work.fs.unlink(file)
    work.fs.symlink(str(elsewhere), file)


def _pipe(work: Workspace, file: Path) -> None:
    work.fs.unlink(file)
    os.mkfifo(file)


def _edit(work: Workspace, file: Path) -> None:
    kind = io.kind_of(work.path)
    assert kind is not None
    path = io.contract_path(work.path, kind)
    _rewrite(work, path, path.read_bytes().replace(b'"toy": true', b'"toy": false').replace(b'"stage": "', b'"stage": "x'))


def _empty(work: Workspace, file: Path) -> None:
    for child in list(work.path.iterdir()):
        remove_tree(work.fs, child) if child.is_dir() else work.fs.unlink(child)


LIES: dict[str, Callable[[Workspace, Path], None]] = {
    "one bit of a file flipped": _flip,
    "the last byte of a file cut off": _cut,
    "a file missing": _remove,
    "a file too many": _add,
    "a link in place of a file": _link,
    "a pipe in place of a file": _pipe,
    "an edited contract": _edit,
    "nothing in it": _empty,
}
