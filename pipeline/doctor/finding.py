"""What a check found.

Here: the record and the ways to make one. Not here: who looks (checks.py), how it is shown (pipeline/reports/doctor.py).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Level = Literal["info", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing as it is. `expected` says what it should be, `remedy` a command or a deed, both empty where nothing is wrong.

    `evidence` is where that was read: a file, a command, a variable. `group` and `check` say who looked; running.py fills them in.
    """

    level: Level
    found: str
    expected: str = ""
    remedy: str = ""
    evidence: str = ""
    group: str = ""
    check: str = ""

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def info(found: str, evidence: str = "") -> Finding:
    """Nothing is wrong."""
    return Finding("info", found, evidence=evidence)


def optional(found: str, *, expected: str, remedy: str, evidence: str = "") -> Finding:
    """Something is missing that nothing here needs; who wants it is told how to get it."""
    return Finding("info", found, expected, remedy, evidence)


def warning(found: str, *, expected: str, remedy: str, evidence: str = "") -> Finding:
    """Something that does not stop the work, or not today's."""
    return Finding("warning", found, expected, remedy, evidence)


def error(found: str, *, expected: str, remedy: str, evidence: str = "") -> Finding:
    """Something without which the work cannot be done, or an artifact that is not what it claims."""
    return Finding("error", found, expected, remedy, evidence)
