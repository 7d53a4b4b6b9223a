"""What a proof says: the ways in which an environment is not what its lock names, and what was looked at.

Here: the records. Not here: finding them (check.py and the modules that it asks).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Difference:
    """One way in which an environment is not what its lock says. `where` is a file or a distribution, `distribution` the one to install anew."""

    where: str
    expected: str
    found: str
    distribution: str | None = None

    def __str__(self) -> str:
        return f"{self.where}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True)
class Guest:
    """A distribution beside the lock that offers stages or gates: whoever installed it trusts it. Its files are proven by its own RECORD alone."""

    name: str
    version: str


@dataclass(frozen=True)
class Proof:
    """What was found. Without differences the environment is the locked one, by `files` files of `dists` distributions."""

    differences: list[Difference]
    guests: list[Guest]
    dists: int
    files: int
    size_bytes: int


def what_is_at(path: Path) -> str:
    """What lies at a path, in words."""
    if path.is_symlink():
        return f"a link to {path.readlink()}"
    return "a file" if path.is_file() else "nothing" if not path.exists() else "no regular file"
