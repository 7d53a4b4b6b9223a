"""The files of this working tree, by digest: what tells whether a copy of it elsewhere is still the same.

Here: walking and digesting. Not here: which files count where (container.py, ssh.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

LEFT_OUT = ("__pycache__", ".venv")


def digests(root: Path, names: Iterable[str]) -> dict[str, str]:
    """The digest of each file, and of every file below each folder, by its name under `root`."""
    found = (file for name in sorted(set(names)) for file in _files(root / name))
    return {file.relative_to(root).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in found}


def _files(path: Path) -> Iterator[Path]:
    """A file, or those below a folder that .dockerignore lets pass."""
    if not path.is_dir():
        yield path
        return
    for child in sorted(path.iterdir()):
        if child.name not in LEFT_OUT:
            yield from _files(child)
