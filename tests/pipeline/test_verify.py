"""What `verify` proves beyond digests: everything that follows from contents, and everything that the inputs lead to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes.artifacts import resealed, write_checkpoint, write_dataset, write_evaluation

from interlock.contracts import checkpoint, dataset, deployment, evaluation, export, io, strict
from interlock.errors import ContractError
from interlock.voice import SilentVoice
from pipeline.verify import verify

GOLDEN = Path(__file__).parent.parent / "interlock" / "contracts" / "golden" / "v2"


def relaid(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def edit(file: Path, **changes: object) -> dict[str, Any]:
    """A contract with other values and true digests, in the layout of a stage."""
    document = resealed(json.loads(file.read_bytes()) | changes)
    file.write_bytes(relaid(document))
    return document


def refused(directory: Path, find: Callable[[str], Path | None] = lambda digest: None) -> list[tuple[str, str]]:
    with pytest.raises(ContractError) as error:
        verify(directory, SilentVoice(), find)
    return [(Path(violation.file).name, violation.where) for violation in error.value.violations]


TOKENIZER = {"sha256": "0" * 64, "vocab_size": 3}


@pytest.mark.parametrize(
    ("field", "value", "where"),
    [
        ("parameters", 119, "/parameters"), ("dtype", "float16", "embed.weight"), ("tokenizer", None, "/tokenizer/sha256"),
        ("tokenizer", TOKENIZER, "/tokenizer/sha256"), ("model_arch", {"use_halt_head": True, "use_self_evaluation": False}, "halt_head.weight"),
        ("tokenizer", "template", "/tokenizer/has_chat_template"),
    ],
)  # fmt: skip
def test_a_checkpoint_that_is_not_what_its_files_say(tmp_path: Path, field: str, value: object, where: str) -> None:
    written = write_checkpoint(tmp_path)
    assert written.tokenizer is not None
    if value == "template":
        value = {**written.tokenizer.model_dump(mode="json"), "has_chat_template": True}
    edit(tmp_path / checkpoint.FILE, **{field: value})
    assert where in [place for _, place in refused(tmp_path)]


def test_blocks_of_other_tensors_than_the_source_names(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    shutil.copy(tmp_path / checkpoint.WEIGHTS, tmp_path / checkpoint.BLOCKS)
    edit(tmp_path / checkpoint.FILE, files=[entry.model_dump(mode="json") for entry in io.entries(tmp_path)])
    assert {name for name, _ in refused(tmp_path)} == {checkpoint.BLOCKS}


def test_a_dataset_of_another_number_of_rows(tmp_path: Path) -> None:
    written = write_dataset(tmp_path)
    splits = {name: split.model_dump(mode="json") for name, split in written.splits.items()}
    edit(tmp_path / dataset.FILE, splits=splits | {"test": splits["test"] | {"rows": 3}})
    assert refused(tmp_path) == [(dataset.FILE, "/splits/test/rows")]


def test_an_evaluation_of_another_number_of_items(tmp_path: Path) -> None:
    write_evaluation(tmp_path)
    edit(tmp_path / evaluation.FILE, items=61)
    assert refused(tmp_path) == [(evaluation.FILE, "/items")]


@pytest.mark.parametrize("kind", ["checkpoint", "deployment", "dataset", "evaluation"])
def test_a_contract_in_other_bytes_that_mean_the_same_is_found(tmp_path: Path, kind: str) -> None:
    """Reading allows another layout; a proof of every byte does not."""
    made = Path(shutil.copytree(GOLDEN / kind, tmp_path / kind))
    file = made / io.KINDS[kind][0]
    whole = file.read_bytes()
    for other in (whole + b"\n", whole[:-1], whole.replace(b"\n", b"\r\n"), whole.replace(b"  ", b"\t"), whole.replace(b'"kind"', b'"\\u006bind"')):
        file.write_bytes(other)
        io.read_contract(file, io.BY_FILE[file.name])
        assert refused(made) == [(file.name, "")]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A folder of artifacts by digest: the checkpoint that the golden deployment's export was made from."""
    digest = io.read_contract(GOLDEN / "checkpoint" / checkpoint.FILE, checkpoint.CheckpointContract).digest
    shutil.copytree(GOLDEN / "checkpoint", tmp_path / "store" / digest)
    return tmp_path / "store"


def finder(store: Path) -> Callable[[str], Path | None]:
    return lambda digest: store / digest if (store / digest).is_dir() else None


def test_without_a_store_the_report_says_what_was_not_reached() -> None:
    proven = verify(GOLDEN / "deployment", SilentVoice())
    assert [(one.contract.kind, one.place) for one in proven.reached] == [("deployment", "here"), ("export", "part")]
    assert [ref.kind for ref in proven.missing] == ["checkpoint"]


def test_with_a_store_everything_that_it_was_made_from_is_proven(store: Path) -> None:
    proven = verify(GOLDEN / "deployment", SilentVoice(), finder(store))
    assert [(one.contract.kind, one.place) for one in proven.reached] == [("deployment", "here"), ("export", "part"), ("checkpoint", "store")]
    assert [ref.kind for ref in proven.missing] == ["source"]
    assert proven.as_dict()["reached"][2]["directory"] == str(next(store.iterdir()))


@pytest.mark.parametrize("name", [checkpoint.WEIGHTS, checkpoint.TOKENIZER, checkpoint.FILE])
def test_a_damaged_ancestor_is_named(store: Path, name: str) -> None:
    file = next(store.iterdir()) / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(ContractError) as error:
        verify(GOLDEN / "deployment", SilentVoice(), finder(store))
    assert {violation.file for violation in error.value.violations} == {str(file)}
    assert "fsck --repair" in error.value.remedy


def test_an_ancestor_under_a_digest_that_is_not_its_own_is_named(store: Path) -> None:
    held = next(store.iterdir())
    edit(held / checkpoint.FILE, step=7)
    assert (checkpoint.FILE, "/digest") in refused(GOLDEN / "deployment", finder(store))


@pytest.mark.parametrize(("change", "where"), [({"toy": True}, "/toy"), ({"step": 9}, "/step")])
def test_what_an_ancestor_has_its_descendants_must_have(tmp_path: Path, change: dict[str, object], where: str) -> None:
    """Every contract is whole and names the next truly: only the fields disagree."""
    ancestor = Path(shutil.copytree(GOLDEN / "checkpoint", tmp_path / "checkpoint"))
    digest = edit(ancestor / checkpoint.FILE, **change)["digest"]
    made = Path(shutil.copytree(GOLDEN / "deployment", tmp_path / "deployed"))
    part = edit(made / export.FILE, inputs=[{"kind": "checkpoint", "digest": digest}])["digest"]
    edit(made / deployment.FILE, export_digest=part, inputs=[{"kind": "export", "digest": part}])
    assert refused(made, lambda asked: ancestor if asked == digest else None) == [(export.FILE, where)]


def test_a_circle_of_inputs_ends(tmp_path: Path) -> None:
    """No contract can name its own digest, but a store can answer with anything."""
    write_checkpoint(tmp_path)
    digest = edit(tmp_path / checkpoint.FILE, inputs=[{"kind": "checkpoint", "digest": "a" * 64}])["digest"]
    assert digest
    assert refused(tmp_path, lambda asked: tmp_path) == [(checkpoint.FILE, "/digest")]


class CountingVoice(SilentVoice):
    """Counts the bytes that were hashed."""

    def __init__(self) -> None:
        self.bytes = 0

    @contextmanager
    def task(self, label: str, total: float | None = None, unit: str = "") -> Iterator[CountingVoice]:
        yield self

    def advance(self, amount: float = 1) -> None:
        self.bytes += int(amount)

    def note(self, text: str) -> None: ...


def test_a_file_that_stands_in_two_directories_is_hashed_once(store: Path, tmp_path: Path) -> None:
    """An output that is linked to the store has the store's files."""
    ancestor = next(store.iterdir())
    made = Path(shutil.copytree(ancestor, tmp_path / "made"))
    (made / checkpoint.WEIGHTS).unlink()
    (made / checkpoint.WEIGHTS).hardlink_to(ancestor / checkpoint.WEIGHTS)
    digest = edit(made / checkpoint.FILE, inputs=[{"kind": "checkpoint", "digest": ancestor.name}])["digest"]
    voice = CountingVoice()
    proven = verify(made, voice, finder(store))
    assert [one.contract.digest for one in proven.reached] == [digest, ancestor.name]
    tokenizers = 2 * (made / checkpoint.TOKENIZER).stat().st_size
    assert voice.bytes == (made / checkpoint.WEIGHTS).stat().st_size + tokenizers


def test_a_signature_file_is_read_strictly(tmp_path: Path) -> None:
    made = Path(shutil.copytree(GOLDEN / "deployment", tmp_path / "deployed"))
    file = made / export.signature_file(export.PREFILL)
    other = strict.parse_json(file.read_bytes(), str(file), remedy="") | {"n_layers": 7}
    file.write_bytes(relaid(other))
    part = json.loads((made / export.FILE).read_bytes())
    entries = {entry.path: entry.model_dump(mode="json") for entry in io.entries(made)}
    digest = edit(made / export.FILE, files=[entries[entry["path"]] for entry in part["files"]])["digest"]
    edit(made / deployment.FILE, files=list(entries.values()), export_digest=digest, inputs=[{"kind": "export", "digest": digest}])
    assert refused(made) == [(file.name, "")]
