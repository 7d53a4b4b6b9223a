"""The cells of a matrix side by side: what each is worth, which of them no other beats, and the winner by a rule.

Here: figures from contracts, the Pareto front, rules. Not here: expanding a matrix (pipeline/recipe.py), building cells (build.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from interlock.errors import UsageError

# What is better: less of it (1) or more (-1).
SENSE = {"bytes": 1, "kl_mean": 1, "kl_max": 1, "psnr_db": -1}
AIMS = {"smallest": "bytes", "most faithful": "kl_mean"}
RULE = 'write "smallest where all gates pass", or bounds on bytes, kl_mean, kl_max, psnr_db, as in "most faithful where bytes <= 120MB"'


def figures(contract: dict[str, Any]) -> dict[str, float]:
    """What can be compared of a package: bytes of its weights, and over all its outputs the greatest KL and least PSNR against the student.

    `contract` is a package contract in JSON; any other kind gives its size alone.
    """
    size = sum(entry["bytes"] for entry in contract["files"])
    if contract["kind"] != "package":
        return {"bytes": size}
    evidence = [item for item in contract["gate"]["evidence"] if item["against"] is None]
    found: dict[str, float] = {"bytes": contract["facts"]["weight_bytes"]}
    for name, best in (("kl_mean", max), ("kl_max", max), ("psnr_db", min)):
        values = [item[name] for item in evidence if item[name] is not None]
        if values:
            found[name] = best(values)
    return found


@dataclass(frozen=True)
class Row:
    """One cell: its figures, empty where it was not made; `rejected` tells why its gate refused it."""

    cell: str
    values: dict[str, Any]
    figures: dict[str, float]
    rejected: str | None = None
    failed: str | None = None
    digest: str | None = None

    @property
    def passes(self) -> bool:
        return self.rejected is None and self.failed is None and self.digest is not None


def front(rows: Iterable[Row]) -> set[str]:
    """The cells that pass and that no other passing cell beats in both size and mean KL."""
    passing = [(row.figures["bytes"], row.figures["kl_mean"], row.cell) for row in rows if row.passes and "kl_mean" in row.figures]
    found: set[str] = set()
    least, size = float("inf"), 0.0
    for bytes_, kl, cell in sorted(passing):
        # Of a size the first has the least KL; an equal one is beaten by nobody either.
        if kl < least or (kl == least and bytes_ == size):
            found.add(cell)
            least, size = kl, bytes_
    return found


@dataclass(frozen=True)
class Rule:
    """Which cell to take: the best by one figure, among those that pass their gates and meet every bound."""

    text: str
    aim: str
    bounds: tuple[tuple[str, str, float], ...]

    def choose(self, rows: Iterable[Row]) -> Row | None:
        """The winner; of equals the first by name, so that the same matrix always has the same."""
        fitting = [row for row in rows if row.passes and self.aim in row.figures and all(self._meets(row, *bound) for bound in self.bounds)]
        return min(fitting, key=lambda row: (SENSE[self.aim] * row.figures[self.aim], row.cell), default=None)

    @staticmethod
    def _meets(row: Row, name: str, sign: str, bound: float) -> bool:
        value = row.figures.get(name)
        if value is None:
            return False
        return {"<=": value <= bound, "<": value < bound, ">=": value >= bound, ">": value > bound}[sign]


_BOUND = re.compile(r"(bytes|kl_mean|kl_max|psnr_db) ?(<=|>=|<|>) ?([0-9]{1,15}(?:\.[0-9]{1,15})?(?:[eE][+-]?[0-9]{1,2})?) ?(kB|MB|GB)?")


def parse_rule(text: str) -> Rule:
    """`smallest where all gates pass`, `most faithful where bytes <= 120MB and kl_max < 0.01`. Raises UsageError."""
    aim, _, condition = " ".join(text.split()).partition(" where ")
    if aim not in AIMS or (" where " in text and not condition):
        raise UsageError(f"--best `{text[:100]}` is no rule", remedy=RULE)
    bounds = []
    for part in filter(None, condition.split(" and ")):
        if part == "all gates pass":
            continue  # a cell that does not is never taken
        found = _BOUND.fullmatch(part)
        if found is None:
            raise UsageError(f"--best: `{part[:100]}` is no condition", remedy=RULE)
        bounds.append((found[1], found[2], float(found[3]) * {None: 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[found[4]]))
    return Rule(text, AIMS[aim], tuple(bounds))
