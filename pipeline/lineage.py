"""Where an artifact comes from: the chain of contracts from a directory back to its source.

Here: finding the contract behind each digest (in the directory, beside it, in the store), and the candidates that a gate refused on the way.
Not here: how a lineage looks (pipeline/reports), proving files (pipeline/verify.py).
A contract counts only if its own digest is the one that was asked for: an ancestor that is found is the one that was used. Its files are not read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from interlock.contracts import io
from interlock.contracts.base import Contract, InputRef, Kind
from interlock.errors import ContractError, UsageError, refuse
from pipeline.gates.rejected import Rejected, rejected_in

Place = Literal["here", "embedded", "beside", "stored", "absent"]
# Folders beside the directory that are looked into; a folder of thousands of artifacts is a store, and is asked as one.
MAX_BESIDE = 256
# A chain of stages is shorter; what is longer was made to exhaust us.
MAX_ARTIFACTS = 256


@dataclass(frozen=True)
class Ancestor:
    """One artifact of a lineage, or its source. place: where its contract was found; path: the directory that holds it; problem: why a contract that
    should be there cannot be used. contract is None for a source and for what is not at hand: then the digest is all that is known."""

    kind: str
    digest: str
    place: Place
    path: Path | None = None
    contract: Contract | None = None
    problem: str | None = None

    @property
    def inputs(self) -> tuple[InputRef, ...]:
        return self.contract.inputs if self.contract else ()


@dataclass(frozen=True)
class Lineage:
    """artifacts: the directory's own first, then its ancestors by digest, each once; an artifact stands before what it was made from."""

    artifacts: dict[str, Ancestor]
    rejected: tuple[Rejected, ...]

    @property
    def root(self) -> Ancestor:
        return next(iter(self.artifacts.values()))


def lineage_of(directory: Path, find: Callable[[str], Path | None] = lambda digest: None, rejected: Path | None = None) -> Lineage:
    """The lineage of an artifact directory.

    find: the directory of an artifact in the store, by digest; rejected: the store's folder of refused candidates. Raises ContractError if the
    directory holds no valid contract.
    """
    root = _own(directory)
    artifacts: dict[str, Ancestor] = {}
    waiting = [(root, directory)]
    beside = _Beside(directory)
    while waiting:
        ancestor, near = waiting.pop(0)
        if ancestor.digest in artifacts:
            continue
        if len(artifacts) == MAX_ARTIFACTS:
            raise refuse(directory, "", expected=f"at most {MAX_ARTIFACTS} artifacts in a lineage", found="more", remedy="name another directory")
        artifacts[ancestor.digest] = ancestor
        for ref in ancestor.inputs:
            found = _found(ref, near, directory, beside, find)
            waiting.append((found, found.path or near))
    candidates = [folder for folder in (directory.absolute().parent / "rejected", rejected) if folder is not None]
    return Lineage(_ordered(artifacts, root), tuple(item for folder in candidates for item in rejected_in(folder) if _concerns(item, artifacts)))


def resolve(directory: Path) -> Path:
    """The artifact directory that a person means: `directory` itself, or, of the artifacts in it, the one that nothing else there was made from.

    Raises ContractError where there is none, UsageError where there are several.
    """
    if directory.is_dir() and io.kind_of(directory) is None:
        inside = {contract.digest: (path, contract) for path, contract in _artifacts_in(directory)}
        used = {ref.digest for _, contract in inside.values() for ref in contract.inputs}
        last = [path for digest, (path, _) in inside.items() if digest not in used]
        if len(last) > 1:
            names = ", ".join(f"`{path.name}`" for path in last[:8]) + (", …" if len(last) > 8 else "")
            raise UsageError(f"`{directory}` holds {len(last)} finished artifacts", remedy=f"name one of them: {names}")
        return last[0] if last else directory
    return directory


def _own(directory: Path) -> Ancestor:
    contract = io.read_any(directory)
    return Ancestor(contract.kind, contract.digest, "here", directory, contract)


def _read(directory: Path, kind: Kind) -> Contract:
    return io.read_contract(io.contract_path(directory, kind), io.KINDS[kind][1])


def _found(ref: InputRef, near: Path, directory: Path, beside: _Beside, find: Callable[[str], Path | None]) -> Ancestor:
    """The artifact behind a reference: in the directory that was made from it, in the store, or beside the directory in question."""
    if ref.kind == "source":
        return Ancestor("source", ref.digest, "absent")
    problem = None
    places: tuple[tuple[Place, Path | None], ...] = (
        ("embedded", near),
        ("embedded", directory),
        ("stored", find(ref.digest)),
        ("beside", beside.find(ref.digest)),
    )
    for place, path in places:
        if path is None or not io.contract_path(path, ref.kind).is_file():
            continue
        try:
            contract = _read(path, ref.kind)
        except ContractError as error:
            problem = error.problem
            continue
        if contract.digest == ref.digest:
            return Ancestor(ref.kind, ref.digest, place, path, contract)
        if place == "stored":
            problem = f"the store's `{path.name}` holds another digest, {contract.digest}"
    return Ancestor(ref.kind, ref.digest, "absent", problem=problem)


class _Beside:
    """Artifact directories next to one, by digest; read when the first of them is asked for."""

    def __init__(self, directory: Path) -> None:
        self._parent = directory.absolute().parent
        self._paths: dict[str, Path] | None = None

    def find(self, digest: str) -> Path | None:
        if self._paths is None:
            self._paths = {contract.digest: path for path, contract in _artifacts_in(self._parent)}
        return self._paths.get(digest)


def _artifacts_in(folder: Path) -> Iterator[tuple[Path, Contract]]:
    """Sub-folders with a valid contract; one with a broken contract is no artifact, and what is hidden is an older generation, or nobody's."""
    try:
        children = [child for child in sorted(folder.iterdir()) if child.is_dir() and not child.name.startswith(".") and io.kind_of(child)]
    except OSError:
        return
    for child in children[:MAX_BESIDE]:
        with contextlib.suppress(ContractError):
            yield child, io.read_any(child)


def _ordered(artifacts: dict[str, Ancestor], root: Ancestor) -> dict[str, Ancestor]:
    """Everything before what it was made from. Digests of contracts cannot form a circle: each covers those of its inputs."""
    order: dict[str, Ancestor] = {}

    def place(ancestor: Ancestor) -> None:
        for ref in ancestor.inputs:
            if ref.digest not in order:
                place(artifacts[ref.digest])
        order[ancestor.digest] = ancestor

    place(root)
    return dict(reversed(order.items()))


def _concerns(item: Rejected, artifacts: dict[str, Ancestor]) -> bool:
    """A candidate was made from an artifact of this lineage or compared with one; of one whose evidence cannot be read nobody knows."""
    return item.rejection is None or not item.rejection.concerns.isdisjoint(artifacts)
