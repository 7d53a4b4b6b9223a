"""What every contract shares: the header, the record of an environment, digests over canonical JSON.

Here: records and pure functions. Not here: reading and writing files (io.py), the bodies of the kinds (one module each).
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
    model_validator,
)

from interlock.canonical import canonical_json

Kind = Literal["dataset", "checkpoint", "export", "package", "deployment", "evaluation"]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
UNSEALED = "0" * 64

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
    """The environment that ran a stage: `packages` are measured versions of its direct dependencies, not declared ones. `launcher` is what started
    it there, `image` the digest of the image or the store path that the environment was, if it was one. Both are absent in older documents."""

    name: str
    python: str
    platform: str
    lock_digest: Sha256
    packages: dict[str, str]
    launcher: str | None = None
    image: str | None = None

    @model_serializer(mode="wrap")
    def _without_what_is_not_said(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = serialize(self)
        return {name: value for name, value in document.items() if value is not None}


class CreatedBy(Frozen):
    """`source_digest` covers the import closure of the stage (pipeline/driver/keys.py)."""

    stage: str
    project_version: str
    source_digest: Sha256
    environment: EnvironmentRecord


class Finding(Frozen):
    """One thing that a gate looked at, in a sentence. `value` and `threshold` are its numbers, null where it has none."""

    text: Annotated[str, Field(min_length=1, max_length=500)]
    passed: bool
    value: float | None = None
    threshold: float | None = None


class GatePassed(Frozen):
    """A gate of another package that was asked before publication: its name, the distribution that offers it, what it found."""

    gate: str
    distribution: str
    findings: Annotated[tuple[Finding, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _did_pass(self) -> GatePassed:
        if not all(finding.passed for finding in self.findings):
            raise ValueError("what a gate refuses is not published")
        return self


class Contract(Frozen):
    """The common header. `digest` says what the artifact is, `seal` that the document is whole: no time, host or duration is in either.

    Version 1 had one digest over everything and no seal; it is read by its own rules and never written.
    """

    kind: Kind
    schema_version: Literal[1, 2] = 2
    created_by: CreatedBy
    inputs: tuple[InputRef, ...]
    files: Annotated[tuple[FileEntry, ...], Field(min_length=1)]
    toy: bool = False
    gates_passed: tuple[GatePassed, ...] = ()
    digest: Sha256 = UNSEALED
    seal: Sha256 = UNSEALED

    SINCE_2: ClassVar[tuple[str, ...]] = ()
    """Fields of a kind that came with version 2 and are left out of the document where they say nothing."""

    @model_validator(mode="after")
    def _header_is_whole(self) -> Contract:
        if self.schema_version == 1 and "seal" in self.model_fields_set:
            raise ValueError("version 1 has no seal")
        if self.schema_version == 1 and (self.created_by.environment.launcher or self.created_by.environment.image):
            raise ValueError("version 1 names no launcher and no image")
        if self.schema_version == 1 and self.gates_passed:
            raise ValueError("version 1 has no gates of other packages")
        if self.schema_version == 1 and (said := [name for name in self.SINCE_2 if getattr(self, name) is not None]):
            raise ValueError(f"version 1 has no {said[0]}")
        paths = [entry.path for entry in self.files]
        if len(set(paths)) < len(paths):
            raise ValueError(f"files lists {next(path for path in paths if paths.count(path) > 1)} twice")
        return self

    @model_serializer(mode="wrap")
    def _of_its_version(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = serialize(self)
        if self.schema_version == 1:
            del document["seal"]
        if not self.gates_passed:  # most builds name none: their contracts are the same with and without this field
            document.pop("gates_passed", None)
        return {name: value for name, value in document.items() if value is not None or name not in self.SINCE_2}

    def sealed(self) -> Contract:
        """The same contract with its true digest and seal."""
        document = self.model_dump(mode="json")
        document["digest"] = digest_of(document)
        return self.model_copy(update={"digest": document["digest"], "seal": seal_of(document)})

    def entry(self, path: str) -> FileEntry:
        """The entry of one file. Raises KeyError."""
        return {entry.path: entry for entry in self.files}[path]

    def parts(self) -> dict[str, str]:
        """Contracts that the directory holds beside this one: file name and digest. They are proven by that digest and their own seal."""
        return {}


def digest_of(document: dict[str, Any]) -> str:
    """What an artifact is: sha256 over the canonical JSON of its contract, without what differs between equal artifacts.

    `created_by` is left out, so that equal bytes from another source, interpreter or platform have equal digests and cut a build off early.
    """
    return _sha256_without(document, {"digest"} if document.get("schema_version") == 1 else {"created_by", "digest", "seal"})


def seal_of(document: dict[str, Any]) -> str:
    """sha256 over the canonical JSON of the whole contract but the seal itself: any changed value is found, `created_by` included."""
    return _sha256_without(document, {"seal"})


def _sha256_without(document: dict[str, Any], fields: set[str]) -> str:
    return hashlib.sha256(canonical_json({key: value for key, value in document.items() if key not in fields})).hexdigest()
