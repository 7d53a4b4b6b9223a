"""Contracts on disk: reading by the rules of their version, digests of files, proof of a whole directory.

Here: contract files and the files they describe. Not here: JSON (strict.py), what the fields mean (one module per kind), publishing (fs.py).
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from interlock.contracts import checkpoint, dataset, deployment, evaluation, export, package
from interlock.contracts.base import Contract, FileEntry, Kind, digest_of, seal_of
from interlock.contracts.strict import MAX_BYTES, parse_json, shown, validated
from interlock.errors import ContractError, Violation, refuse

KINDS: dict[str, tuple[str, type[Contract]]] = {
    "deployment": (deployment.FILE, deployment.DeploymentContract),
    "package": (package.FILE, package.PackageContract),
    "export": (export.FILE, export.ExportContract),
    "checkpoint": (checkpoint.FILE, checkpoint.CheckpointContract),
    "dataset": (dataset.FILE, dataset.DatasetContract),
    "evaluation": (evaluation.FILE, evaluation.EvaluationContract),
}
BY_FILE = dict(KINDS.values())
VERSION = 2  # what is written; earlier ones are read by their own rules
MADE_BY: dict[str, str] = {
    "deployment": "interlock deploy",
    "package": "interlock convert",
    "export": "interlock export",
    "checkpoint": "interlock import SOURCE",
    "dataset": "interlock data make",
    "evaluation": "interlock eval",
}

# The command that makes the second kind from a directory of the first.
STEPS = {
    ("checkpoint", "export"): "interlock export --checkpoint {} --out OUT",
    ("checkpoint", "deployment"): "interlock deploy --checkpoint {} --export-pytorch --export-coreml --out-dir OUT",
    ("export", "package"): "interlock convert --in {} --out OUT",
    ("export", "deployment"): "interlock deploy --export {} --out-dir OUT",
    ("package", "deployment"): "interlock deploy --export EXPORT --package {} --out-dir OUT",
}
_STAGES = ("dataset", "checkpoint", "export", "package", "deployment", "evaluation")

C = TypeVar("C", bound=Contract)
Progress = Callable[[int], None]


def contract_path(directory: Path, kind: str) -> Path:
    """Where the contract of `kind` stands in an artifact directory."""
    return directory / KINDS[kind][0]


def kind_of(directory: Path) -> Kind | None:
    """Which kind of artifact directory this is, by its contract file; a deployment holds others' contracts too, and is named first."""
    for kind in ("deployment", "package", "export", "checkpoint", "dataset", "evaluation"):
        if contract_path(directory, kind).is_file():
            return kind
    return None


def read_any(directory: Path) -> Contract:
    """The contract of an artifact directory, of whichever kind it is. Raises ContractError."""
    kind = kind_of(directory) if directory.is_dir() else None
    if kind is None:
        expected = "an artifact directory (with one of " + ", ".join(f"`{file}`" for file in BY_FILE) + ")"
        found = "none of them" if directory.is_dir() else "no such directory"
        raise refuse(directory, "", expected=expected, found=found, remedy="name a directory that a stage made")
    return read_contract(contract_path(directory, kind), KINDS[kind][1])


def read_contract(path: Path, model: type[C]) -> C:
    """A contract from its file: strict JSON, of the expected kind and a known version, its fields valid, its digest and seal true.

    Raises ContractError.
    """
    wanted: Kind = model.model_fields["kind"].default
    remedy = f"make it again: {MADE_BY[wanted]}"
    if not path.is_file():
        here = kind_of(path.parent) if path.parent.is_dir() else None
        found = f"a directory of kind `{here}`" if here else ("no such file" if path.parent.is_dir() else f"no directory `{path.parent}`")
        raise refuse(path, "", expected=f"the contract of kind `{wanted}`", found=found, remedy=_way_to(wanted, here, path.parent))
    document = parse_json(_read_small(path), str(path), remedy=remedy)
    kind, version = document.get("kind"), document.get("schema_version")
    if kind != wanted:
        remedy = _way_to(wanted, kind if isinstance(kind, str) else None, path.parent)
        raise refuse(path, "/kind", expected=f"`{wanted}`", found=shown(kind), remedy=remedy)
    if type(version) is not int or not 1 <= version <= VERSION:
        newer = type(version) is int and version > VERSION
        what = "a newer interlock wrote it: upgrade this one, or make the artifact again" if newer else remedy
        raise refuse(path, "/schema_version", expected=f"1 to {VERSION}", found=shown(version), remedy=what)
    contract, wrong = validated(model, document, str(path))
    wrong = [*_false_digests(document, path), *wrong]
    if wrong or contract is None:
        raise ContractError(*wrong, remedy=f"the contract was edited or damaged: {remedy}")
    return contract


def _way_to(wanted: Kind, here: str | None, directory: Path) -> str:
    """What to do with a directory of kind `here` where one of kind `wanted` is needed."""
    if command := STEPS.get((here or "", wanted)):
        return f"make the {wanted} of it: {command.format(shlex.quote(str(directory)))}"
    if here in KINDS and _STAGES.index(wanted) < _STAGES.index(here):
        return f"name the {wanted} that it was made from: interlock lineage {shlex.quote(str(directory))}"
    return f"name a directory made by {MADE_BY[wanted]}"


def _false_digests(document: dict[str, Any], path: Path) -> list[Violation]:
    """Which of `digest` and `seal` do not follow from the fields; version 1 has no seal."""
    true = {"digest": digest_of(document)} | ({"seal": seal_of(document)} if document["schema_version"] > 1 else {})
    return [
        Violation(str(path), f"/{field}", f"{value} (computed from the fields)", shown(document.get(field)))
        for field, value in true.items()
        if document.get(field) != value
    ]


def read_parts(directory: Path, contract: Contract) -> dict[str, Contract]:
    """The contracts that `directory` holds as parts of `contract`, by file name, each with the digest that it names. Raises ContractError."""
    parts: dict[str, Contract] = {}
    wrong: list[Violation] = []
    for name, digest in contract.parts().items():
        if not (directory / name).is_file():
            wrong.append(Violation(str(directory / name), "", f"the contract of a part, with digest {digest}", "no such file"))
            continue
        try:
            part = read_contract(directory / name, BY_FILE[name])
        except ContractError as error:
            wrong += error.violations
            continue
        if part.digest != digest:
            wrong.append(Violation(str(directory / name), "/digest", f"{digest} (named by {KINDS[contract.kind][0]})", part.digest))
        parts[name] = part
    if wrong:
        raise ContractError(*wrong, remedy=f"a part was changed or is another's; make it again: {MADE_BY[contract.kind]}")
    return parts


def _read_small(path: Path) -> bytes:
    with open_regular(path) as file:
        return bytes(file.read(MAX_BYTES + 1))


def open_regular(path: Path) -> Any:
    """Open a regular file for reading without following a link and without blocking on a FIFO or device. Raises ContractError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        found = "a symbolic link" if path.is_symlink() else (error.strerror or str(error)).lower()
        raise refuse(path, "", expected="a regular file", found=found, remedy="put the file itself there, readable by you") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise refuse(path, "", expected="a regular file", found="a directory, device or pipe", remedy="put the file itself there")
    return os.fdopen(descriptor, "rb")


def sha256_file(path: Path, progress: Progress | None = None) -> str:
    """sha256 of a regular file, never through a link. `progress` gets the bytes of each chunk."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
            if progress:
                progress(len(chunk))
    return digest.hexdigest()


def walk(directory: Path) -> Iterator[str]:
    """Relative POSIX paths of everything in `directory` that is not a directory, sorted; links are listed, never followed."""
    for path in sorted(directory.rglob("*")):
        if path.is_symlink() or not path.is_dir():
            yield path.relative_to(directory).as_posix()


def entries(directory: Path, progress: Progress | None = None) -> tuple[FileEntry, ...]:
    """The `files` of an artifact directory as it is now: everything but contracts, which their own seals prove."""
    found = [name for name in walk(directory) if name not in BY_FILE]
    return tuple(FileEntry(path=n, sha256=sha256_file(directory / n, progress), bytes=(directory / n).stat().st_size) for n in found)


def names(contract: Contract) -> set[str]:
    """Every file that an artifact directory holds: those that the contract lists, its parts' contracts, and itself."""
    return {entry.path for entry in contract.files} | set(contract.parts()) | {KINDS[contract.kind][0]}


def file_violations(
    directory: Path, contract: Contract, progress: Progress | None = None, hashed: dict[tuple[int, int], str] | None = None
) -> list[Violation]:
    """How `directory` differs from what `contract` says it holds: changed, missing, extra. Empty when it is exactly that.

    `hashed` keeps digests by device and inode, for whoever proves several directories that may share files.
    """
    known = {} if hashed is None else hashed
    listed = {entry.path: entry for entry in contract.files}
    present = set(walk(directory))
    found = [
        Violation(str(directory / name), "", "no such file (the contract does not list it)", "an extra file")
        for name in sorted(present - names(contract))
    ]
    for name, entry in listed.items():
        path = directory / name
        if name not in present:
            found.append(Violation(str(path), "", f"a file of {entry.bytes} bytes", "nothing"))
            continue
        if path.is_symlink() or not path.is_file():
            found.append(Violation(str(path), "", "a regular file", "a link, pipe or device"))
            continue
        status = path.stat()
        if status.st_size != entry.bytes:
            found.append(Violation(str(path), "", f"{entry.bytes} bytes", f"{status.st_size} bytes"))
            continue
        identity = status.st_dev, status.st_ino
        if identity not in known:
            known[identity] = sha256_file(path, progress)
        if known[identity] != entry.sha256:
            found.append(Violation(str(path), "", f"sha256 {entry.sha256}", f"sha256 {known[identity]}"))
    try:
        read_parts(directory, contract)
    except ContractError as error:
        found += error.violations
    return found


def read_artifact(directory: Path, model: type[C], progress: Progress | None = None) -> C:
    """A contract and the proof that the directory holds exactly the files it describes. Raises ContractError with all violations."""
    wanted = model.model_fields["kind"].default
    contract = read_contract(contract_path(directory, wanted), model)
    if found := file_violations(directory, contract, progress):
        raise ContractError(*found, remedy=f"an artifact was changed after its contract was written; make it again: {MADE_BY[wanted]}")
    return contract


def pretty(document: BaseModel) -> bytes:
    """A contract as it stands on disk: indented for people, keys in field order; digests cover the canonical form instead."""
    return (json.dumps(document.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
