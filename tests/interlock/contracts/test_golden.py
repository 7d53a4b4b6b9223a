"""Published versions are read for ever: golden artifacts of each, written once by the code of their time and never again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from fakes.artifacts import resealed

from interlock.contracts import deployment, export, io, package
from interlock.contracts.base import Contract
from interlock.errors import ContractError
from interlock.voice import SilentVoice
from pipeline.stages.deploy import derive
from pipeline.verify import verify

GOLDEN = Path(__file__).parent / "golden"
VERSIONS = sorted(path.name for path in GOLDEN.iterdir())
DOCUMENTS = sorted(path for file in io.BY_FILE for path in GOLDEN.rglob(file))


def ids(path: Path) -> str:
    return path.relative_to(GOLDEN).as_posix()


def read(path: Path) -> Contract:
    return io.read_contract(path, io.BY_FILE[path.name])


def canonical(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def test_every_version_has_goldens_and_the_current_one_of_every_kind() -> None:
    assert [f"v{number}" for number in range(1, io.VERSION + 1)] == VERSIONS
    assert {path.name for path in DOCUMENTS if f"v{io.VERSION}" in path.parts} == set(io.BY_FILE)


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
def test_a_golden_document_reads_as_its_version_with_every_value(path: Path) -> None:
    contract = read(path)
    assert f"v{contract.schema_version}" == path.relative_to(GOLDEN).parts[0]
    document = json.loads(path.read_bytes())
    told = contract.model_dump(mode="json")
    assert {key: told[key] for key in document} == document


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
def test_digests_follow_the_rules_of_their_version(path: Path) -> None:
    """Computed here from the rules in docs/contracts.md, not by the code under test."""
    document = json.loads(path.read_bytes())
    told = {field: document.pop(field) for field in ("digest", "seal") if field in document}
    if document["schema_version"] == 1:
        assert told == {"digest": hashlib.sha256(canonical(document)).hexdigest()}
        return
    assert told["seal"] == hashlib.sha256(canonical(document | {"digest": told["digest"]})).hexdigest()
    del document["created_by"]
    assert told["digest"] == hashlib.sha256(canonical(document)).hexdigest()


@pytest.mark.parametrize("folder", [folder for folder in sorted(GOLDEN.glob("*/*")) if folder.name != "toy"], ids=ids)
def test_a_golden_directory_verifies(folder: Path) -> None:
    assert verify(folder, SilentVoice()).contract.kind == folder.name


@pytest.mark.parametrize("version", VERSIONS)
def test_a_golden_manifest_follows_from_its_parts(version: str) -> None:
    folder = GOLDEN / version / "toy"
    manifest = io.read_contract(folder / deployment.FILE, deployment.DeploymentContract)
    parts = io.read_parts(folder, manifest)
    exported, packaged = parts[export.FILE], parts[package.FILE]
    assert isinstance(exported, export.ExportContract) and isinstance(packaged, package.PackageContract)
    derived = derive(exported, packaged)
    assert {field: getattr(manifest, field) for field in derived} == derived
    listed = {entry.path for entry in manifest.files}
    assert (export.FILE in listed) == (package.FILE in listed) == (manifest.schema_version == 1)


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
@pytest.mark.parametrize("field", ["digest", "seal", "created_by", "inputs"])
def test_a_golden_document_with_a_changed_header_is_refused(tmp_path: Path, path: Path, field: str) -> None:
    document = json.loads(path.read_bytes())
    if field == "seal" and document["schema_version"] == 1:
        document = resealed(document | {"seal": "0" * 64})  # a field of a later version
    elif field in ("digest", "seal"):
        document[field] = "f" * 64
    elif field == "created_by":
        document["created_by"]["environment"]["python"] = "3.14.0"
    else:
        document["inputs"][0]["digest"] = "f" * 64
    (tmp_path / path.name).write_text(json.dumps(document))
    with pytest.raises(ContractError) as refused:
        read(tmp_path / path.name)
    assert {violation.where for violation in refused.value.violations} <= {"/digest", "/seal", "/"}
