"""The driver's own notes on disk: actions, outputs, builds, tables. Written whole, and believed only when every byte is as it was written.

Here: the form. Not here: what notes say, and what it costs to lose one (each module says: time).
A file has two lines, each JSON by itself: the document, and the sha256 of the first line as a string.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

from interlock import fs
from interlock.calls import Fs


def save(path: Path, document: dict[str, Any], files: Fs | None = None) -> None:
    """Replace the note at `path`. Raises StageFailed."""
    line = json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
    fs.save_file(path, line + b'\n"' + hashlib.sha256(line).hexdigest().encode() + b'"\n', files)


def load(path: Path) -> dict[str, Any]:
    """The note at `path`; empty where there is none, or not the one that was written. A FIFO in its place is no note, and nobody waits for it."""
    try:
        with open(path, "rb", opener=lambda name, _: os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)) as file:
            line, _, seal = (file.read() if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b"").partition(b"\n")
    except OSError:
        return {}
    if seal != b'"' + hashlib.sha256(line).hexdigest().encode() + b'"\n':
        return {}
    document: dict[str, Any] = json.loads(line)
    return document
