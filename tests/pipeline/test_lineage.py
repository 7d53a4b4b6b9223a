"""A lineage leads from a directory to its source, says where each contract was found, and believes no digest that it has not computed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from fakes.artifacts import write_checkpoint
from fakes.chains import write_chain, write_rejected

from interlock.contracts import checkpoint, export, io, package
from interlock.contracts.base import InputRef
from interlock.errors import ContractError, UsageError
from pipeline.lineage import Lineage, lineage_of, resolve
from pipeline.reports.ancestry import lines, tree_of
from pipeline.reports.document import artifacts_of

GGUF = "84d1f880c196a7fddfaa7add03872614f504527a3828aefe2b352e99db21fcc9"


def places(lineage: Lineage) -> list[tuple[str, str]]:
    return [(item.kind, item.place) for item in lineage.artifacts.values()]


def test_a_deployment_leads_to_the_sha256_of_its_source(tmp_path: Path) -> None:
    made = write_chain(tmp_path)
    lineage = lineage_of(tmp_path / "deployed")
    assert places(lineage) == [
        ("deployment", "here"),
        ("package", "embedded"),
        ("export", "embedded"),
        ("checkpoint", "beside"),
        ("source", "absent"),
    ]
    assert list(lineage.artifacts)[:4] == [made[kind]["digest"] for kind in ("deployment", "package", "export", "checkpoint")]
    assert [item.digest for item in lineage.artifacts.values()][-1] == GGUF
    assert [item.artifact.kind for item in tree_of(artifacts_of(lineage)).inputs] == ["package", "export"]


def test_what_is_not_at_hand_is_known_by_its_digest_alone(tmp_path: Path) -> None:
    made = write_chain(tmp_path)
    shutil.rmtree(tmp_path / "checkpoint")
    last = list(lineage_of(tmp_path / "deployed").artifacts.values())[-1]
    assert (last.kind, last.place, last.digest, last.contract) == ("checkpoint", "absent", made["checkpoint"]["digest"], None)


def test_the_store_is_asked_by_digest(tmp_path: Path) -> None:
    made = write_chain(tmp_path)
    (tmp_path / "store").mkdir()
    kept = tmp_path / "store" / "object"
    (tmp_path / "checkpoint").rename(kept)
    asked: list[str] = []

    def find(digest: str) -> Path | None:
        asked.append(digest)
        return kept if digest == made["checkpoint"]["digest"] else None

    lineage = lineage_of(tmp_path / "deployed", find)
    assert ("checkpoint", "stored") in places(lineage) and lineage.artifacts[GGUF].kind == "source"
    assert set(asked) <= set(lineage.artifacts)


def test_a_store_that_hands_out_another_artifact_is_not_believed(tmp_path: Path) -> None:
    write_chain(tmp_path / "mine")
    write_chain(tmp_path / "other", lambda kind, document: document.update(step=7) if kind == "checkpoint" else None)
    shutil.rmtree(tmp_path / "mine" / "checkpoint")
    lineage = lineage_of(tmp_path / "mine" / "deployed", lambda digest: tmp_path / "other" / "checkpoint")
    item = list(lineage.artifacts.values())[-1]
    assert item.place == "absent" and item.problem is not None and "another digest" in item.problem


@pytest.mark.parametrize("file", [export.FILE, package.FILE])
def test_a_part_that_was_edited_is_not_believed(tmp_path: Path, file: str) -> None:
    write_chain(tmp_path)
    shutil.rmtree(tmp_path / "exported")
    shutil.rmtree(tmp_path / "package")
    part = tmp_path / "deployed" / file
    part.write_text(part.read_text().replace('"step": 1000', '"step": 1001'))
    found = [item for item in lineage_of(tmp_path / "deployed").artifacts.values() if item.place == "absent" and item.kind != "source"]
    assert found and all(item.contract is None for item in found) and any("computed from the fields" in (item.problem or "") for item in found)


def test_the_directorys_own_contract_must_be_true(tmp_path: Path) -> None:
    write_chain(tmp_path)
    file = tmp_path / "checkpoint" / checkpoint.FILE
    file.write_text(file.read_text().replace('"step": 1000', '"step": 1001'))
    with pytest.raises(ContractError, match="computed from the fields"):
        lineage_of(tmp_path / "checkpoint")
    with pytest.raises(ContractError, match="no such directory"):
        lineage_of(tmp_path / "nothing")


def test_candidates_of_this_lineage_are_named_and_others_are_not(tmp_path: Path) -> None:
    made = write_chain(tmp_path)
    mine = write_rejected(tmp_path / "rejected" / "four", made["package"])
    stored = write_rejected(tmp_path / "store" / "rejected" / "a1b2", made["package"])
    foreign = json.loads(json.dumps(made["package"]))
    foreign["gate"]["reference_digest"] = "f" * 64
    write_rejected(tmp_path / "rejected" / "foreign", foreign)
    torn = tmp_path / "rejected" / "torn"
    torn.mkdir()
    (torn / "evidence.json").write_text('{"findings": [')
    found = lineage_of(tmp_path / "deployed", rejected=tmp_path / "store" / "rejected").rejected
    assert [item.path for item in found] == [mine, torn, stored]
    assert found[0].rejection is not None and found[0].rejection.findings[0].startswith("decode, logits")
    assert found[1].rejection is None and "strict JSON" in (found[1].problem or "")


def test_a_folder_of_artifacts_means_the_one_that_nothing_was_made_from(tmp_path: Path) -> None:
    write_chain(tmp_path)
    assert resolve(tmp_path) == tmp_path / "deployed"
    assert resolve(tmp_path / "package") == tmp_path / "package"
    write_chain(tmp_path / "other", lambda kind, document: document.update(step=7) if kind == "checkpoint" else None)
    (tmp_path / "other" / "deployed").rename(tmp_path / "second")
    with pytest.raises(UsageError, match="2 finished artifacts"):
        resolve(tmp_path)
    (tmp_path / "empty").mkdir()
    assert resolve(tmp_path / "empty") == tmp_path / "empty"


def test_an_output_that_is_a_link_to_its_generation_is_found_once(tmp_path: Path) -> None:
    write_chain(tmp_path)
    (tmp_path / ".checkpoint.generations").mkdir()
    (tmp_path / "checkpoint").rename(tmp_path / ".checkpoint.generations" / "0a1b2c3d")
    (tmp_path / "checkpoint").symlink_to(".checkpoint.generations/0a1b2c3d")
    item = next(item for item in lineage_of(tmp_path / "deployed").artifacts.values() if item.kind == "checkpoint")
    assert (item.place, item.path) == ("beside", tmp_path / "checkpoint")
    assert resolve(tmp_path) == tmp_path / "deployed"


def test_many_ways_to_one_source_are_walked_once(tmp_path: Path) -> None:
    """Layers of two artifacts, each made from both of the layer below: 2^50 ways."""
    below: tuple[InputRef, ...] = (InputRef(kind="source", digest="2" * 64),)
    for layer in range(50):
        refs = []
        for side in range(2):
            directory = tmp_path / f"{layer:02}-{side}"
            contract = write_checkpoint(directory).model_copy(update={"inputs": below, "step": side}).sealed()
            (directory / checkpoint.FILE).write_bytes(io.pretty(contract))
            refs.append(InputRef(kind="checkpoint", digest=contract.digest))
        below = tuple(refs)
    lineage = lineage_of(tmp_path / "49-1")
    assert len(lineage.artifacts) == 2 * 49 + 2
    assert sum(", as above" in line.value for line in lines(tree_of(artifacts_of(lineage)), ascii_only=True)) == 2 * 48 + 1
