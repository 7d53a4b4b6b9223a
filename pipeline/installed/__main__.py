"""What `ci/install` and `ci/sync` call.

  python -m pipeline.installed note LOCK        note what uv has just installed into the virtual environment of this very interpreter
  python -S -m pipeline.installed spoiled VENV  print which packages of uv's cache are damaged, as far as hard links into it tell

The second needs no package: each of them may be a damaged one.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from interlock.command import guarded
from pipeline.installed import files, note
from pipeline.installed.distributions import distributions
from pipeline.installed.packages import PROJECT


def main(word: str, path: str) -> int:
    if word == "note":
        note.write(Path(sys.prefix), Path(path), PROJECT)
    else:
        print("\n".join(spoiled(Path(path).absolute())))
    return 0


def spoiled(venv: Path) -> list[str]:
    """Packages with a file that is not what its RECORD names and is a hard link: uv's own copy is the same file, and would be installed again."""
    owners: dict[str, str] = {}
    wanted: dict[str, set[str | None]] = {}
    for one in distributions(venv):
        with contextlib.suppress(OSError, ValueError):
            for entry in one.entries():
                owners[entry.path] = one.name
                wanted.setdefault(entry.path, set()).add(entry.sha256)
    found = files.digests(wanted, None, lambda path: None)
    damaged = [path for path, digest in found.items() if digest is not None and digest not in wanted[path]]
    return sorted({owners[path] for path in damaged if Path(path).lstat().st_nlink > 1})


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(*sys.argv[1:])))
