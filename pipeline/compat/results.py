"""What was measured: one case's result, and a column of them with the versions that they were measured with.

Here: the records, and when two of them say the same. Not here: how tables keep them (table.py), measuring (judge.py, probe.py).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["ok", "wrong", "refused", "failed", "crashed", "hung"]
# What counts as working. `refused`: by a case that every version refuses, for the reason known.
GOOD = ("ok", "refused")
MEANINGS: dict[Status, str] = {
    "ok": "converted, and the saved package computes what torch does",
    "refused": "the converter says that it cannot, for the known reason",
    "failed": "the conversion raised an error",
    "wrong": "converted without an error, but the saved package does not compute what torch does",
    "crashed": "the process died",
    "hung": "no end within the time limit",
}
# Processors add in different orders: seen are differences of 0.1 dB where rounding to fp16 dominates, and several where nothing was rounded.
SAME_DB, EXACT_DB = 0.5, 100.0


@dataclass(frozen=True)
class Result:
    """One case. db: the least PSNR of any output against torch; operations: how many of each type the package has; note: what went wrong."""

    status: Status
    db: float | None = None
    operations: Mapping[str, int] = field(default_factory=dict)
    note: str = ""
    seconds: float = 0.0

    @property
    def digest(self) -> str:
        """Of the operations; empty where there are none."""
        return hashlib.sha256(json.dumps(self.operations, sort_keys=True).encode()).hexdigest()[:12] if self.operations else ""

    def differs(self, other: Result) -> str:
        """How, in words; empty where both say the same. The words of an error may differ, its class may not."""
        if self.status != other.status:
            return f"{self.status} → {other.status}" + (f" ({other.note})" if other.note else "")
        if self.note.partition(":")[0] != other.note.partition(":")[0]:
            return f"{self.note} → {other.note}"
        if self.digest != other.digest:
            return f"operations {changes(self.operations, other.operations)}"
        if self.db is not None and other.db is not None and abs(self.db - other.db) > SAME_DB and min(self.db, other.db) < EXACT_DB:
            return f"{self.db:.1f} → {other.db:.1f} dB"
        return ""


def changes(before: Mapping[str, int], after: Mapping[str, int]) -> str:
    """`+2 cast, -1 silu (148 → 149)`."""
    moved = ((kind, after.get(kind, 0) - before.get(kind, 0)) for kind in sorted({*before, *after}))
    return f"{', '.join(f'{count:+d} {kind}' for kind, count in moved if count)} ({sum(before.values())} → {sum(after.values())})"


@dataclass(frozen=True)
class Versions:
    """What a column was measured with. python: without the patch number; platform: as in contracts, `linux-x86_64`."""

    torch: str
    python: str
    coremltools: str
    numpy: str
    platform: str

    def text(self) -> str:
        return f"torch {self.torch}, Python {self.python}, coremltools {self.coremltools}, numpy {self.numpy}, {self.platform}"


@dataclass(frozen=True)
class Column:
    """The results of every case under one set of versions."""

    versions: Versions
    cells: Mapping[str, Result]

    def differences(self, other: Column) -> dict[str, str]:
        """By case, what `other` measured differently; a case that one of them lacks is a difference."""
        found = {}
        for name in dict.fromkeys([*self.cells, *other.cells]):
            mine, theirs = self.cells.get(name), other.cells.get(name)
            words = mine.differs(theirs) if mine and theirs else "not measured" if mine else "not known before"
            if words:
                found[name] = words
        return found

    def as_dict(self) -> dict[str, Any]:
        return {"versions": vars(self.versions), "cells": {name: vars(result) for name, result in self.cells.items()}}


def column_from(document: Mapping[str, Any]) -> Column:
    """The reverse of `as_dict`."""
    return Column(Versions(**document["versions"]), {name: Result(**cell) for name, cell in document["cells"].items()})
