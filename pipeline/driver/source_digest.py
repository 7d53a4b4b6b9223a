"""What a source spec stands for, as digests for the import stage's key, without opening the model.

Here: hashing what a spec names. Not here: reading it (pipeline/sources).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pipeline.driver import keys
from pipeline.driver.index import Index

# Sources that their name stands for, and those that are read from a path.
NAMED, PATHS = ("package", "random"), ("gguf", "hf", "pt")


def of(spec: str, tokenizer: Path | None, index: Index) -> dict[str, str]:
    """Digests by name. A registry package is pinned by hash in the environment's lock, which is in every key: its name says all, as a seed does.

    Raises OSError.
    """
    path = _path(spec)
    return ({"source": spec} if path is None else digests("source", path, index)) | digests("tokenizer", tokenizer, index)


def places(spec: str, tokenizer: Path | None) -> list[Path]:
    """The files and folders that are read where a source is opened."""
    return [path for path in (_path(spec), tokenizer) if path is not None]


def _path(spec: str) -> Path | None:
    scheme, _, rest = spec.partition(":")
    return None if scheme in NAMED else Path(rest if scheme in PATHS else spec)


def digests(name: str, path: Path | None, index: Index) -> dict[str, str]:
    """The digest of a file, or of every file below a folder; none where there is nothing. Raises OSError."""
    if path is None or not path.exists():
        return {}
    if not path.is_dir():
        return {f"{name}/{path.name}": _digest(path, index)}
    found = {}
    for folder, folders, files in os.walk(path):
        folders.sort()
        for file in sorted(files):
            child = Path(folder) / file
            if stat.S_ISREG(child.lstat().st_mode):
                found[f"{name}/{child.relative_to(path).as_posix()}"] = _digest(child, index)
    return found


def _digest(path: Path, index: Index) -> str:
    return str(index.value(path.absolute(), "sha256", keys.sha256_of))
