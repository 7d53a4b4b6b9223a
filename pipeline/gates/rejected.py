"""Candidates that a gate refused: what stands in a `rejected` folder.

Here: finding and reading them. Not here: what puts them there (verdict.py), how they look (pipeline/reports).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from interlock.contracts import io, strict
from interlock.contracts.base import Finding, Frozen, Kind, Sha256
from interlock.contracts.package import Compression, FrontierPoint, Gate
from interlock.errors import ContractError

EVIDENCE = "evidence.json"
# More candidates than a person looks through.
MAX_CANDIDATES = 256


class Rejection(Frozen):
    """Why an artifact was not published. findings: one line for each value outside its threshold; command: what makes the candidate again, null where
    the same build does.

    Of a package that does not compute what it must: gate is the evidence, compression how its weights were stored, mixed the frontier of finer forms
    that was offered instead, empty where none was searched. Of an artifact that gates of other packages refused: asked is what each of them found,
    made_from the digests of its inputs.
    """

    findings: tuple[str, ...]
    command: str | None = None
    kind: Kind = "package"
    gate: Gate | None = None
    compression: Compression | None = None
    mixed: tuple[FrontierPoint, ...] = ()
    made_from: tuple[Sha256, ...] = ()
    asked: dict[str, tuple[Finding, ...]] = Field(default_factory=dict)

    @property
    def concerns(self) -> set[str]:
        """Digests of the artifacts that the candidate was made from or compared with."""
        return {*self.made_from, *([self.gate.reference_digest] if self.gate else [])}


@dataclass(frozen=True)
class Rejected:
    """A candidate's folder; rejection is None where its evidence cannot be read, and problem says why."""

    path: Path
    rejection: Rejection | None
    problem: str | None = None


def rejected_in(folder: Path) -> Iterator[Rejected]:
    """Every candidate below a `rejected` folder, in order of name; none where there is no such folder."""
    try:
        files = sorted([*folder.glob(f"*/{EVIDENCE}"), *folder.glob(f"*/*/{EVIDENCE}")])[:MAX_CANDIDATES]
    except OSError:
        return
    yield from map(_read, files)


def _read(file: Path) -> Rejected:
    remedy = "make the candidate again, or remove its folder"
    try:
        with io.open_regular(file) as stream:
            document = strict.parse_json(stream.read(strict.MAX_BYTES + 1), str(file), remedy=remedy)
        return Rejected(file.parent, strict.validate(Rejection, document, str(file), remedy=remedy))
    except ContractError as error:
        return Rejected(file.parent, None, error.problem)
