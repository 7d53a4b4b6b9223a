"""What every contract shares: the header, the record of an environment, digests over canonical JSON.

Here: records and pure functions. Not here: reading and writing files (io.py), the bodies of the kinds (one module each).
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

Kind = Literal["dataset", "checkpoint", "export", "package", "deployment", "evaluation"]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

# Names that Windows and some tools treat as devices, whatever their extension.
_DEVICE = re.compile(r"(?i)^(con|prn|aux|nul|com\d|lpt\d)(\..*)?$")
_PART = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}\Z")


def check_relative_path(path: str) -> str:
    """A path that stays inside its directory on every file system: relative, POSIX, plain characters. Raises ValueError."""
    parts = path.split("/")
    if not parts or len(path) > 512 or any(not _PART.match(part) or part.endswith(".") or _DEVICE.match(part) for part in parts):
        raise ValueError("a relative path of plain names (letters, digits, `_ . + -`), inside its directory")
    return path


RelativePath = Annotated[str, AfterValidator(check_relative_path)]


class Frozen(BaseModel):
    """Base of everything that crosses disk: immutable, and an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class FileEntry(Frozen):
    """One file of an artifact directory. `bytes` is its size."""

    path: RelativePath
    sha256: Sha256
    bytes: Annotated[int, Field(ge=0)]


class InputRef(Frozen):
    """What an artifact was made from: another contract by digest, or a foreign file by kind `source` and its sha256."""

    kind: Literal["dataset", "checkpoint", "export", "package", "deployment", "evaluation", "source"]
    digest: Sha256


class EnvironmentRecord(Frozen):
    """The environment that ran a stage: `packages` are measured versions of its direct dependencies, not declared ones."""

    name: str
    python: str
    platform: str
    lock_digest: Sha256
    packages: dict[str, str]


class CreatedBy(Frozen):
    """`source_digest` covers the import closure of the stage (pipeline/driver/keys.py)."""

    stage: str
    project_version: str
    source_digest: Sha256
    environment: EnvironmentRecord


class Contract(Frozen):
    """The common header. `digest` covers the canonical JSON of everything else: no time, host or duration is in it."""

    kind: Kind
    schema_version: Literal[1] = 1
    created_by: CreatedBy
    inputs: tuple[InputRef, ...]
    files: Annotated[tuple[FileEntry, ...], Field(min_length=1)]
    toy: bool = False
    digest: Sha256 = "0" * 64

    def sealed(self) -> Contract:
        """The same contract with its true digest."""
        return self.model_copy(update={"digest": digest_of(self.model_dump(mode="json"))})

    def entry(self, path: str) -> FileEntry:
        """The entry of one file. Raises KeyError."""
        return {entry.path: entry for entry in self.files}[path]


def canonical_json(document: Any) -> bytes:
    """UTF-8, keys sorted, no spaces: the form that digests cover."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_of(document: dict[str, Any]) -> str:
    """sha256 over the canonical JSON of a contract without its own `digest`."""
    return hashlib.sha256(canonical_json({key: value for key, value in document.items() if key != "digest"})).hexdigest()
