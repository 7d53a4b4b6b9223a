"""What `ci/install` and `ci/sync` call.

python -m pipeline.installed note LOCK      note what uv has just installed into the virtual environment of this very interpreter
"""

from __future__ import annotations

import sys
from pathlib import Path

from interlock.command import guarded
from pipeline.installed import note


def main(word: str, path: str) -> int:
    note.write(Path(sys.prefix), Path(path), "interlock")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(*sys.argv[1:])))
