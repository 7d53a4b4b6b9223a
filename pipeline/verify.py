"""Prove a directory and everything that it was made from, as far as it can be found.

Here: which contracts are reached and that their files are those they list. Not here: what follows from the contents (pipeline/contents.py), numeric
gates (they run before publication), how it is shown (pipeline/reports).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from interlock.contracts import io, strict
from interlock.contracts.base import Contract, InputRef
from interlock.errors import ContractError, Violation
from interlock.producers import unfit
from interlock.voice import Voice
from pipeline.contents import REMEDY, content_violations, inheritance_violations
from pipeline.driver.stage import digesting

Place = Literal["here", "part", "store"]
STORE_REMEDY = "the directory is whole, an artifact in the store is not: `interlock fsck --repair` takes it out, the next build makes it again"
# A chain of stages is shorter; what is deeper was made to exhaust us.
MAX_REACHED = 1024


@dataclass(frozen=True)
class Reached:
    """One contract that was proven with its files. A `part` is the contract of what a deployment was made of; its files are the deployment's."""

    contract: Contract
    place: Place
    directory: Path

    def as_dict(self) -> dict[str, Any]:
        return {"kind": self.contract.kind, "digest": self.contract.digest, "place": self.place, "directory": str(self.directory)}


@dataclass(frozen=True)
class Verified:
    """What was proven: the directory's own contract first. `missing` are inputs that nobody could show: only their digests are known, as
    always of a foreign source."""

    reached: tuple[Reached, ...]
    missing: tuple[InputRef, ...]

    @property
    def contract(self) -> Contract:
        return self.reached[0].contract

    @property
    def not_admitted(self) -> dict[str, list[str]]:
        """By digest, how a maker is not the environment that today's definition says: such an artifact is whole, and no stage takes it."""
        makers = {one.contract.digest: one.contract.created_by for one in self.reached if not one.contract.toy}
        told = {digest: [f"{found} instead of {wanted}" for wanted, found in unfit(made.stage, made.environment)] for digest, made in makers.items()}
        return {digest: reasons for digest, reasons in told.items() if reasons}

    def as_dict(self) -> dict[str, Any]:
        return {
            "contract": json.loads(io.pretty(self.contract)),
            "reached": [one.as_dict() for one in self.reached],
            "not_admitted": self.not_admitted,
            "not_reached": [ref.model_dump(mode="json") for ref in self.missing],
        }


def verify(directory: Path, voice: Voice, find: Callable[[str], Path | None] = lambda digest: None) -> Verified:
    """Prove `directory` and, through `inputs`, what `find` shows of its ancestors by their digests.

    No file is hashed twice, whatever names it has. Raises ContractError with every violation found.
    """
    proof = _Proof(voice, find)
    proof.add(directory, io.read_any(directory), "here")
    if proof.wrong:
        raise ContractError(*proof.wrong, remedy=STORE_REMEDY if proof.stored_only else REMEDY)
    return Verified(tuple(proof.reached.values()), tuple(proof.missing.values()))


class _Proof:
    """The walk from an artifact to its ancestors, each once, and what was found wrong."""

    def __init__(self, voice: Voice, find: Callable[[str], Path | None]) -> None:
        self.reached: dict[str, Reached] = {}
        self.missing: dict[str, InputRef] = {}
        self.wrong: list[Violation] = []
        self.stored_only = True
        """Whether what is wrong is in the store alone."""
        self._voice, self._find = voice, find
        self._hashed: dict[tuple[int, int], str] = {}

    def add(self, directory: Path, contract: Contract, place: Place) -> None:
        """Prove one directory, then follow its inputs."""
        self.reached[contract.digest] = Reached(contract, place, directory)
        with digesting(directory, self._voice) as progress:
            wrong = io.file_violations(directory, contract, progress, self._hashed)
        parts: dict[str, Contract] = {}
        if not wrong:  # contents are only read once their digests are known
            parts = io.read_parts(directory, contract)
            wrong = content_violations(directory, contract, parts)
        for name in (io.KINDS[contract.kind][0], *parts):
            wrong += _layout(directory / name)
        self.wrong += wrong
        self.stored_only &= not (wrong and place == "here")
        for part in parts.values():
            self.reached.setdefault(part.digest, Reached(part, "part", directory))
        for child in (contract, *parts.values()):
            self._follow(directory / io.KINDS[child.kind][0], child)

    def _follow(self, file: Path, child: Contract) -> None:
        for ref in child.inputs:
            if ref.kind != "source" and ref.digest not in self.reached and len(self.reached) < MAX_REACHED:
                self._reach(ref)
            if parent := self.reached.get(ref.digest):
                disagreements = list(inheritance_violations(file, child, parent.contract))
                self.wrong += disagreements
                self.stored_only &= not disagreements
            else:
                self.missing.setdefault(ref.digest, ref)

    def _reach(self, ref: InputRef) -> None:
        directory = self._find(ref.digest)
        if directory is None:
            return
        try:
            contract = io.read_any(directory)
        except ContractError as error:
            self.wrong += error.violations
            return
        if (contract.kind, contract.digest) != (ref.kind, ref.digest):
            file = str(io.contract_path(directory, contract.kind))
            self.wrong.append(Violation(file, "/digest", f"the {ref.kind} {ref.digest}", f"the {contract.kind} {contract.digest}"))
            return
        self.add(directory, contract, "store")


def _layout(file: Path) -> list[Violation]:
    """A contract as no stage wrote it: the same values in other bytes. Reading allows that; a proof of every byte does not."""
    data = file.read_bytes()
    document = strict.parse_json(data, str(file), remedy=REMEDY)
    same = (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode() == data
    return [] if same else [Violation(str(file), "", "the bytes that a stage writes", "others that mean the same")]
