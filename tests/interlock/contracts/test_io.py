"""Contracts on disk: what is written is what is read, and any changed byte is refused with its place."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path

import pytest
from fakes.artifacts import describe, resealed, write_checkpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interlock.canonical import canonical_json
from interlock.contracts import checkpoint, deployment, export, io, package, strict
from interlock.contracts.base import CreatedBy, EnvironmentRecord, check_relative_path, seal_of
from interlock.errors import ContractError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def read(directory: Path) -> checkpoint.CheckpointContract:
    return io.read_artifact(directory, checkpoint.CheckpointContract)


def test_a_written_artifact_reads_back_equal(tmp_path: Path) -> None:
    written = write_checkpoint(tmp_path)
    assert read(tmp_path) == written


def test_the_digest_ignores_layout_but_not_values(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    file = tmp_path / checkpoint.FILE
    document = json.loads(file.read_bytes())
    file.write_text(json.dumps(document, sort_keys=True, indent=7))
    read(tmp_path)
    document["step"] = 7
    file.write_text(json.dumps(document))
    with pytest.raises(ContractError) as refused:
        read(tmp_path)
    assert refused.value.violations[0].where == "/digest"


def test_canonical_json_is_the_published_form() -> None:
    # RFC 8785 section 3.2.3's ordering and whitespace on a document with plain ASCII keys and integers.
    assert canonical_json({"b": [1, {"z": None, "a": True}], "a": "ü"}) == '{"a":"ü","b":[1,{"a":true,"z":null}]}'.encode()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    position=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
    name=st.sampled_from([checkpoint.WEIGHTS, checkpoint.TOKENIZER, checkpoint.FILE]),
)
def test_one_flipped_bit_anywhere_is_refused_by_name(tmp_path: Path, position: float, bit: int, name: str) -> None:
    write_checkpoint(tmp_path)
    file = tmp_path / name
    data = bytearray(file.read_bytes())
    before = json.loads(bytes(data)) if name == checkpoint.FILE else None
    data[int(position * len(data))] ^= 1 << bit
    file.write_bytes(data)
    if before is not None:
        try:
            if json.loads(bytes(data)) == before:
                return  # white space between tokens: the same document
        except ValueError:
            pass
    with pytest.raises(ContractError) as refused:
        read(tmp_path)
    assert str(file) in [violation.file for violation in refused.value.violations]


@pytest.mark.parametrize(
    "text",
    [
        b'{"kind": "checkpoint", "kind": "export"}', b'{"a": NaN}', b'{"a": Infinity}', b'{"a": 1e999}', b'{"a": 9007199254740993}',
        b'{"a": ' + b"9" * 5000 + b"}", b"[" * 100_000, b'{"a":' * 1000 + b"1" + b"}" * 1000, b"\xef\xbb\xbf{}", '{"a": 1}'.encode("utf-16"),
        b'{"a": 1} trailing', b"{} {}", b'{"a": 1 /* no */}', b"", b"null",
        b"[]", b'"x"', b'{"a": "\xff"}', b"{'a': 1}", b'{"a": 01}', b'{"a": 1,}', b"{\x00}",
    ],
)  # fmt: skip
def test_json_that_the_standard_parser_lets_through_is_refused(text: bytes) -> None:
    with pytest.raises(ContractError) as refused:
        strict.parse_json(text, "file.json", remedy="make it again")
    assert refused.value.violations[0].file == "file.json"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_parse_or_are_refused(data: bytes) -> None:
    with contextlib.suppress(ContractError):
        assert isinstance(strict.parse_json(data, "file.json", remedy="make it again"), dict)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(TEXT, st.recursive(st.integers(-(2**53), 2**53) | TEXT | st.booleans() | st.none(), st.lists, max_leaves=8)))
def test_ordinary_documents_survive_strict_reading(document: dict[str, object]) -> None:
    assert strict.parse_json(json.dumps(document, ensure_ascii=False).encode(), "x", remedy="") == document


def edited(tmp_path: Path, **changes: object) -> Path:
    """A checkpoint whose contract was edited and sealed again: only the fields' own rules can refuse it."""
    document = json.loads(io.pretty(write_checkpoint(tmp_path))) | changes
    (tmp_path / checkpoint.FILE).write_text(json.dumps(resealed(document)))
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"kind": "export"}, "/kind"), ({"schema_version": 3}, "/schema_version"),
        ({"schema_version": "1"}, "/schema_version"), ({"schema_version": 0}, "/schema_version"),
        ({"surprise": 1}, "/surprise"), ({"step": -1}, "/step"), ({"step": "7"}, "/step"), ({"step": 1.5}, "/step"), ({"dtype": "int4"}, "/dtype"),
        ({"files": []}, "/files"), ({"toy": "yes"}, "/toy"), ({"tokenizer": {"sha256": "0" * 64, "vocab_size": 4}}, "/"),
    ],
)  # fmt: skip
def test_a_field_outside_its_rule_is_refused_at_its_path(tmp_path: Path, changes: dict[str, object], where: str) -> None:
    with pytest.raises(ContractError) as refused:
        read(edited(tmp_path, **changes))
    assert where in [violation.where for violation in refused.value.violations]
    assert refused.value.remedy


def test_all_violations_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(ContractError) as refused:
        read(edited(tmp_path, step=-1, dtype="int4", surprise=1))
    assert {violation.where for violation in refused.value.violations} == {"/step", "/dtype", "/surprise"}


def test_extra_missing_and_truncated_files_are_named(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / "extra").write_bytes(b"")
    (tmp_path / checkpoint.TOKENIZER).unlink()
    weights = tmp_path / checkpoint.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ContractError) as refused:
        read(tmp_path)
    assert {Path(v.file).name for v in refused.value.violations} == {"extra", checkpoint.TOKENIZER, checkpoint.WEIGHTS}


def test_a_deployment_holds_its_parts_contracts_and_no_others(tmp_path: Path) -> None:
    """They are no extra files, though `files` does not list them; a contract that it does not name is."""
    made = Path(shutil.copytree(Path(__file__).parent / "golden" / "v2" / "deployment", tmp_path / "deployed"))
    manifest = io.read_artifact(made, deployment.DeploymentContract)
    assert export.FILE not in {entry.path for entry in manifest.files} and set(io.walk(made)) == io.names(manifest)
    assert {entry.path for entry in io.entries(made)} == {entry.path for entry in manifest.files}
    shutil.copy(made / export.FILE, made / package.FILE)
    with pytest.raises(ContractError) as refused:
        io.read_artifact(made, deployment.DeploymentContract)
    assert [(Path(v.file).name, v.found) for v in refused.value.violations] == [(package.FILE, "an extra file")]
    (made / package.FILE).unlink()
    (made / export.FILE).unlink()
    with pytest.raises(ContractError) as refused:
        io.read_artifact(made, deployment.DeploymentContract)
    assert [(Path(v.file).name, v.found) for v in refused.value.violations] == [(export.FILE, "no such file")]


@pytest.mark.parametrize("name", [checkpoint.TOKENIZER, checkpoint.FILE])
@pytest.mark.parametrize("trap", ["link", "dangling", "loop", "device", "fifo", "folder"])
def test_a_file_that_is_not_a_regular_file_is_refused_without_blocking(tmp_path: Path, trap: str, name: str) -> None:
    write_checkpoint(tmp_path)
    file = tmp_path / name
    content = file.read_bytes()
    file.unlink()
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.write_bytes(content)
    make = {
        "link": lambda: file.symlink_to(outside),
        "dangling": lambda: file.symlink_to("nowhere"),
        "loop": lambda: file.symlink_to(name),
        "device": lambda: file.symlink_to("/dev/zero"),
        "fifo": lambda: os.mkfifo(file),
        "folder": file.mkdir,
    }
    make[trap]()
    with pytest.raises(ContractError) as refused:
        read(tmp_path)
    assert str(file) in [violation.file for violation in refused.value.violations]


def test_the_wrong_kind_says_what_it_is_and_what_is_needed(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    with pytest.raises(ContractError) as refused:
        io.read_artifact(tmp_path, export.ExportContract)
    assert "`export`" in refused.value.violations[0].expected and "`checkpoint`" in refused.value.violations[0].found


@pytest.mark.parametrize(
    "path", ["../x", "/x", "a/../b", "", ".", "a//b", "C:x", "a\x00b", "con", "aux.txt", "a.", "-rf", "~", "$HOME", "é", "a/b\n", "x" * 200, "a b"]
)
def test_paths_that_leave_or_trick_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="relative path"):
        check_relative_path(path)


def test_describing_a_directory_twice_gives_the_same_digest(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    assert describe(tmp_path).digest == describe(tmp_path).digest


VERSIONS = st.from_regex(r"[0-9]\.[0-9]{1,2}\.[0-9]{1,2}", fullmatch=True)
MAKERS = st.builds(
    CreatedBy,
    stage=st.sampled_from(["import", "train"]),
    project_version=VERSIONS,
    source_digest=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    environment=st.builds(
        EnvironmentRecord,
        name=st.sampled_from(["train", "export"]),
        python=VERSIONS,
        platform=st.sampled_from(["linux-x86_64", "linux-aarch64", "macosx-arm64"]),
        lock_digest=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
        packages=st.dictionaries(TEXT, VERSIONS, max_size=3),
    ),
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(maker=MAKERS)
def test_equal_artifacts_of_other_makers_have_one_digest_and_seals_of_their_own(tmp_path: Path, maker: CreatedBy) -> None:
    mine = write_checkpoint(tmp_path)
    other = mine.model_copy(update={"created_by": maker}).sealed()
    assert other.digest == mine.digest
    assert (other.seal == mine.seal) == (maker == mine.created_by)
    (tmp_path / checkpoint.FILE).write_bytes(io.pretty(other))
    assert read(tmp_path) == other


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(maker=MAKERS)
def test_a_maker_edited_without_the_seal_is_found(tmp_path: Path, maker: CreatedBy) -> None:
    mine = write_checkpoint(tmp_path)
    document = json.loads(io.pretty(mine)) | {"created_by": maker.model_dump(mode="json")}
    (tmp_path / checkpoint.FILE).write_text(json.dumps(document))
    if seal_of(document) == mine.seal:
        return
    with pytest.raises(ContractError) as refused:
        read(tmp_path)
    assert [violation.where for violation in refused.value.violations] == ["/seal"]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(change=st.sampled_from([{"step": 1}, {"toy": True}, {"inputs": ()}, {"parameters": 73}]))
def test_what_an_artifact_is_changes_its_digest(tmp_path: Path, change: dict[str, object]) -> None:
    mine = write_checkpoint(tmp_path)
    assert mine.model_copy(update=change).sealed().digest != mine.digest
