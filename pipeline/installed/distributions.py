"""What is installed in a virtual environment: its distributions, and the files that each one's RECORD names.

Here: reading `*.dist-info`. Not here: whether it is what it should be (check.py).
"""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.parser import BytesHeaderParser
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """One line of a RECORD. `path` is absolute; `sha256` is in hexadecimal, None where the line has none; `size` likewise."""

    path: str
    sha256: str | None
    size: int | None


@dataclass(frozen=True)
class Distribution:
    """One `*.dist-info` folder."""

    name: str
    """Normalised, as locks write it."""
    version: str
    folder: Path
    venv: Path = field(repr=False)

    @property
    def record(self) -> Path:
        return self.folder / "RECORD"

    @cached_property
    def record_digest(self) -> str | None:
        """sha256 of the RECORD as it is now; None where it cannot be read."""
        try:
            return hashlib.sha256(self.record.read_bytes()).hexdigest()
        except OSError:
            return None

    def entries(self) -> Iterator[Entry]:
        """The files that its RECORD names, the RECORD itself left out. Raises OSError and ValueError."""
        inside, site, own = f"{self.venv}{os.sep}", str(self.folder.parent), str(self.record)
        with self.record.open(encoding="utf-8", newline="") as file:
            for row in csv.reader(file):
                name, digest, size = (*row, "", "")[:3]
                path = os.path.normpath(os.path.join(site, name))  # noqa: PTH118 - twenty thousand of them
                if not path.startswith(inside):
                    raise ValueError(f"a file outside the environment: {name}")
                if path != own:
                    yield Entry(path, _hexadecimal(digest), int(size) if size else None)


def _hexadecimal(digest: str) -> str | None:
    """The sha256 of a RECORD's line: there it is base64 without padding. Raises ValueError for another algorithm."""
    if not digest:
        return None
    algorithm, _, value = digest.partition("=")
    if algorithm != "sha256":
        raise ValueError(f"a digest that is no sha256: {digest}")
    try:
        return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).hex()
    except binascii.Error as error:
        raise ValueError(f"{error}: {digest}") from None


def site_packages(venv: Path) -> Path | None:
    """Where a virtual environment has its packages; None where there is no such folder, or more than one."""
    found = sorted(venv.glob("lib/python3*/site-packages"))
    return found[0] if len(found) == 1 else None


def distributions(venv: Path) -> list[Distribution]:
    """Every distribution of a virtual environment, by name."""
    site = site_packages(venv)
    found = [_read(folder, venv) for folder in site.glob("*.dist-info")] if site else []
    return sorted(found, key=lambda one: (one.name, one.version))


def _read(folder: Path, venv: Path) -> Distribution:
    try:
        with (folder / "METADATA").open("rb") as file:
            header = BytesHeaderParser().parse(file)
        name, version = str(header["Name"]), str(header["Version"])
    except OSError:  # what its folder is called, then
        name, _, version = folder.name.removesuffix(".dist-info").partition("-")
    # PEP 503. Without the package `packaging`: what is read here may be what is damaged.
    return Distribution(re.sub(r"[-_.]+", "-", name).lower(), version, folder, venv)
