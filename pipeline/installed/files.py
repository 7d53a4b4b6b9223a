"""Files of a virtual environment: which there are, which of them Python loads as code, what each one's bytes are.

Here: walking and hashing. Not here: which files there should be (check.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline.driver.index import Index
from pipeline.driver.keys import sha256_of
from pipeline.installed.distributions import site_packages

# What Python runs of site-packages: modules, extension modules and the libraries beside them, and what `site` reads when it starts.
CODE = (".py", ".so", ".dylib", ".pth")
CACHE = "__pycache__"


def is_code(name: str) -> bool:
    """Whether a file of this name is loaded as code. `libcudart.so.13` is too; a compiled module is only beside its source."""
    return name.endswith(CODE) or ".so." in name or name.endswith(".pyc")


def walk(folder: str) -> Iterator[os.DirEntry[str]]:
    """Every entry below a folder that is no folder itself. A link is an entry: what it names is not walked."""
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    yield entry


def code_stats(venv: Path) -> dict[str, tuple[int, int]]:
    """Size and time of each file of code in site-packages, by its path there. Compiled modules are left out: Python writes them when it likes."""
    site = site_packages(venv)
    if site is None:
        return {}
    start = len(str(site)) + 1
    found = {}
    for entry in walk(str(site)):
        if is_code(entry.name) and not entry.name.endswith(".pyc"):
            status = entry.stat(follow_symlinks=False)
            found[entry.path[start:]] = (status.st_size, status.st_mtime_ns)
    return found


def size_bytes(venv: Path) -> int:
    """What a virtual environment holds, each file counted once, whether or not another environment shares it."""
    return sum(entry.stat(follow_symlinks=False).st_size for entry in walk(str(venv)))


def digests(paths: Collection[str], index: Index | None, progress: Callable[[str], None]) -> dict[str, str | None]:
    """sha256 of each file; None of what is no readable file. With an `index`, one that is as it was when it was last read is not read again."""

    def digest(path: str) -> str | None:
        try:
            found = sha256_of(Path(path)) if index is None else str(index.value(Path(path), "sha256", sha256_of))
        except OSError:
            return None
        progress(path)
        return found

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:  # hashing large files leaves the interpreter's lock
        return dict(zip(paths, threads.map(digest, paths), strict=True))
