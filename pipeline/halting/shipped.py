"""Heads by name: those that come with interlock, or a file of the user's.

Here: finding the file. Not here: what is in it (head.py); the driver, which asks here, imports no tensor library.
"""

from __future__ import annotations

import re
from pathlib import Path

from interlock.errors import UsageError

SHIPPED = Path(__file__).parent / "heads"


def find(name: str) -> Path:
    """The file of a head: a path, or the name of one that comes with interlock. Raises UsageError."""
    path = Path(name)
    if path.suffix == ".safetensors" or "/" in name:
        if path.is_file():
            return path
        raise UsageError(f"there is no halt head `{name}`", remedy="name a .safetensors file that `interlock halt-fit` wrote")
    file = SHIPPED / f"{name}.safetensors"
    if re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name) and file.is_file():
        return file
    known = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.safetensors")))
    raise UsageError(f"there is no halt head `{name}`", remedy=f"there are {known}; a file of your own is named by its path (NAME.safetensors)")
