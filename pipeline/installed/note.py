"""The note that an installation leaves in its virtual environment: which lock, and the RECORD of each distribution as uv had installed it.

Here: writing and reading it. Not here: comparing an environment with it (check.py, glance.py).
uv checks each wheel against the lock's hash when it installs; a RECORD names the files of its wheel by hash. So the digests of the RECORDs, taken
then, tie every file to the lock. Beside them stand sizes and times of the files that Python loads as code, for the glance.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.driver import records
from pipeline.installed.distributions import distributions
from pipeline.installed.files import code_stats

FILE = ".installed"
FORM = 1


@dataclass(frozen=True)
class Note:
    """`lock` is the lock's sha256; `dists` maps a distribution to its version and the sha256 of its RECORD; `stats` maps a file of code to its size
    and the time of its last change in nanoseconds."""

    lock: str
    dists: dict[str, tuple[str, str]]
    stats: dict[str, tuple[int, int]]


def write(venv: Path, lock: Path, project: str) -> None:
    """Note what uv has just installed. A distribution that was noted before in this version keeps its digest: only what is new was just installed.

    `project` is the distribution that is this project, editable: it is no part of the lock. Raises StageFailed.
    """
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    before = read(venv)
    known = before.dists if before else {}
    dists = {}
    for one in distributions(venv):
        if one.name != project:
            old = known.get(one.name)
            dists[one.name] = old if old and old[0] == one.version else (one.version, one.record_digest or "none")
    if before and (before.lock, before.dists) == (digest, dists):
        return
    document = {"form": FORM, "lock": digest, "distributions": dists, "stats": code_stats(venv)}
    records.save(venv / FILE, document)


def read(venv: Path) -> Note | None:
    """The note of a virtual environment; None where there is none, or none of this form."""
    document: dict[str, Any] = records.load(venv / FILE)
    if document.get("form") != FORM:
        return None
    return Note(document["lock"], {name: (one[0], one[1]) for name, one in document["distributions"].items()}, document["stats"])
