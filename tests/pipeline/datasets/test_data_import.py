"""Rows from elsewhere: directories that `datasets` wrote, JSON lines in the forms people keep, and everything that is refused by file and line."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fakes.datasets import made, rows_of
from fakes.shell import interlock

from interlock.contracts.dataset import DatasetContract
from interlock.errors import ContractError, InterlockError, UsageError
from interlock.voice import SilentVoice
from pipeline.datasets import documents
from pipeline.driver import stage
from pipeline.stages import data_import

pytestmark = pytest.mark.train

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "huggingface_datasets"


def imported(source: Path, out: Path, **params: Any) -> DatasetContract:
    contract = stage.run(data_import.STAGE, data_import.Params(source=source, out=out, **params), SilentVoice()).contract
    assert isinstance(contract, DatasetContract)
    return contract


def refused(source: Path, out: Path, **params: Any) -> list[tuple[str, str, str]]:
    """File, place and what was found of each violation; nothing may have been published."""
    with pytest.raises(ContractError) as told:
        imported(source, out, **params)
    assert not out.exists() and list(out.parent.glob("*.partial-*")) == []
    return [(Path(one.file).name, one.where, one.found) for one in told.value.violations]


def lines(file: Path, *rows: dict[str, Any]) -> Path:
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.mark.parametrize(("layout", "splits"), [("saved", {"train": 12, "validation": 4, "test": 4}), ("hub", {"train": 12, "test": 4})])
def test_directories_of_datasets(tmp_path: Path, layout: str, splits: dict[str, int]) -> None:
    """Arrow streams in two shards, Parquet in snappy and zstd: written by `datasets` and pyarrow, read by arrow-rs."""
    columns = {"prompt": "question", "steps": "rationale"}
    contract = imported(FIXTURES / layout, tmp_path / "d", columns=columns, kept=("level",), separator="\n", licence="CC0-1.0")
    found = rows_of(tmp_path / "d", contract)
    assert {name: len(rows) for name, rows in found.items()} == splits and contract.licence == "CC0-1.0"
    for first, rows in ((0, found["train"]), (200, found["test"])):
        for i, row in enumerate(rows, first):
            assert row.prompt == f"What is {i} plus {i + 1}?" and row.answer == f"\n{2 * i + 1}" and row.metadata == {"level": i % 3}
            assert row.steps == (f"\n{i} + {i} is {2 * i}.", f"\n{2 * i} + 1 is {2 * i + 1}.")
    assert contract.origin and contract.origin.form == "huggingface" and contract.inputs[0].digest == contract.origin.sha256
    if layout == "hub":  # the digest is that of `sha256sum` over the files, by another program
        listed = subprocess.run(["sha256sum", "data/test-00000-of-00001.parquet", "data/train-00000-of-00001.parquet"], cwd=FIXTURES / "hub",
                                capture_output=True, check=True)  # fmt: skip
        assert contract.origin.sha256 == hashlib.sha256(listed.stdout).hexdigest()


def test_a_dialogue_that_ends_with_the_assistant_is_taught_its_last_turn(tmp_path: Path) -> None:
    found = rows_of(tmp_path / "d", imported(FIXTURES / "saved_one", tmp_path / "d", columns={"messages": "conversations"}))
    row = found["train"][3]
    assert [(one.role, one.content) for one in row.messages or ()] == [("user", "Say 3, naïvely 中")] and row.response == "3"


def test_our_own_rows_come_through_byte_for_byte(tmp_path: Path) -> None:
    made(tmp_path / "made", "permutation-automaton", train=200, validation=0, test=20)
    imported(tmp_path / "made" / "train.jsonl", tmp_path / "d")
    assert (tmp_path / "d" / "train.jsonl").read_bytes() == (tmp_path / "made" / "train.jsonl").read_bytes()


def test_forms_in_which_people_keep_rows(tmp_path: Path) -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}]
    talk = [{"role": "user", "content": "add"}, {"role": "assistant", "content": None, "tool_calls": calls}, {"role": "tool", "content": "2"}]
    source = lines(
        tmp_path / "rows.jsonl",
        {"instruction": "Add.", "input": "1 and 1", "output": 2, "how": "one\n\nand one"},
        {"instruction": "Say hello.", "input": "", "output": "hello", "how": ""},
    )
    columns = {"prompt": "instruction+input", "answer": "output", "steps": "how"}
    first, second = rows_of(tmp_path / "a", imported(source, tmp_path / "a", columns=columns, separator=" "))["train"]
    assert (first.id, first.prompt, first.steps, first.answer) == ("train-1", "Add.\n\n1 and 1", (" one", " and one"), " 2")
    assert (second.prompt, second.steps) == ("Say hello.", ())
    (row,) = rows_of(tmp_path / "b", imported(lines(tmp_path / "talk.jsonl", {"messages": talk, "answer": "2"}), tmp_path / "b"))["train"]
    assert row.messages and row.messages[1].calls and row.messages[1].calls[0].arguments == {"a": 1} and row.messages[1].content == ""


@pytest.mark.parametrize(
    ("row", "where", "found"),
    [
        ({"prompt": "x"}, "line 2", "columns prompt"),
        ({"prompt": "x", "answer": 1.5}, "line 2 /answer", "`1.5`"),
        ({"prompt": "x", "answer": "y", "steps": [["z"]]}, "line 2 /steps", '`["z"]`'),
        ({"messages": [{"content": "x"}], "answer": "y"}, "line 2 /messages/0", "content"),
        ({"messages": [{"role": "system2", "content": "x"}], "answer": "y"}, "line 2 /messages/0/role", '`"system2"`'),
        ({"messages": [{"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}], "answer": "y"},
         "line 2 /messages/0/tool_calls/0/arguments", "{"),
        ({"prompt": "x", "answer": "y", "unread": {"teacher_reasoning_content": ""}}, "line 2 /unread/teacher_reasoning_content",
         "`teacher_reasoning_content`"),
        ({"id": "train-1", "prompt": "x", "answer": "y"}, "line 2 /id", "that of rows.jsonl line 1"),
    ],
)  # fmt: skip
def test_a_row_that_is_none_is_named(tmp_path: Path, row: dict[str, Any], where: str, found: str) -> None:
    source = lines(tmp_path / "rows.jsonl", {"prompt": "1 + 1 =", "answer": "2"}, row)
    assert refused(source, tmp_path / "d") == [("rows.jsonl", where, found)]


def test_prompts_that_splits_share_are_refused_or_left_out(tmp_path: Path) -> None:
    shared = {"prompt": "What is  ONE?", "answer": "1"}
    lines(tmp_path / "set" / "train.jsonl", {"prompt": "two?", "answer": "2"}, shared)
    lines(tmp_path / "set" / "test.jsonl", {"prompt": "what is one?", "answer": "1"})
    assert refused(tmp_path / "set", tmp_path / "d") == [("train.jsonl", "line 2 /prompt", "one of split `test`")]
    found = rows_of(tmp_path / "d", imported(tmp_path / "set", tmp_path / "d", drop_leaks=True))
    assert [row.prompt for row in found["train"]] == ["two?"] and len(found["test"]) == 1


def test_clusters_that_splits_share_are_refused_always(tmp_path: Path) -> None:
    lines(tmp_path / "set" / "train.jsonl", {"prompt": "a", "answer": "b", "metadata": {"clusters": ["town"]}})
    lines(tmp_path / "set" / "test.jsonl", {"prompt": "c", "answer": "d", "metadata": {"clusters": ["town"]}})
    found = [("train.jsonl", "line 1 /metadata/clusters", "`town` of split `test`")]
    assert refused(tmp_path / "set", tmp_path / "d") == refused(tmp_path / "set", tmp_path / "d", drop_leaks=True) == found


@pytest.mark.parametrize(("cut", "edit"), [(40, b""), (0, b"PAR1"), (200, b"\xff" * 40)])
@pytest.mark.parametrize("name", ["hub/data/train-00000-of-00001.parquet", "saved_one/data-00000-of-00001.arrow"])
def test_a_damaged_table_is_refused_without_a_panic(tmp_path: Path, name: str, cut: int, edit: bytes) -> None:
    data = (FIXTURES / name).read_bytes()
    file = tmp_path / Path(name).name
    file.write_bytes(data[:cut] + edit + (data[cut + len(edit) : -60] if cut == 200 else b""))
    ((told, where, _),) = refused(file, tmp_path / "d")
    assert (told, where) == (file.name, "")


def test_the_reasoning_of_a_teacher_is_found_in_the_columns_of_a_table(tmp_path: Path) -> None:
    from arro3.io import infer_json_schema, read_json, write_parquet

    text = lines(tmp_path / "x.json", {"prompt": "a", "answer": "b", "unread": [{"teacher_reasoning_content": "hm"}]})
    write_parquet(read_json(text, infer_json_schema(text)), tmp_path / "rows.parquet")
    assert refused(tmp_path / "rows.parquet", tmp_path / "d") == [("rows.parquet", "/teacher_reasoning_content", "`teacher_reasoning_content`")]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ((), "expected rows"),
        (("train.jsonl", "other.jsonl"), "names none"),
        (("train.jsonl", "test.parquet"), "files of several forms"),
        (("en/train.jsonl", "de/train.jsonl"), "files of several forms or folders"),
    ],
)
def test_folders_that_do_not_say_what_they_hold(tmp_path: Path, names: tuple[str, ...], told: str) -> None:
    (tmp_path / "set").mkdir()
    for name in names:
        (tmp_path / "set" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "set" / name).write_text('{"prompt": "a", "answer": "b"}\n')
    with pytest.raises(InterlockError, match=told):
        imported(tmp_path / "set", tmp_path / "d")


def test_nothing_outside_a_directory_is_read(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "saved_one", tmp_path / "set")
    (tmp_path / "dict").mkdir()
    (tmp_path / "dict" / "dataset_dict.json").write_text('{"splits": ["../set"]}')
    assert refused(tmp_path / "dict", tmp_path / "d") == [("dataset_dict.json", "/splits", '`"../set"`')]
    state = tmp_path / "set" / "state.json"
    state.write_text(state.read_text().replace("data-00000-of-00001.arrow", "../secret.arrow"))
    assert refused(tmp_path / "set", tmp_path / "d")[0][:2] == ("state.json", "/_data_files/0")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "train.jsonl").symlink_to(lines(tmp_path / "secret.jsonl", {"prompt": "a", "answer": "b"}))
    assert refused(tmp_path / "linked", tmp_path / "d") == [("train.jsonl", "", "a link that leaves it")]


def test_a_table_beyond_the_limits_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_TABLE", 1000)
    ((name, _, found),) = refused(FIXTURES / "hub" / "data" / "train-00000-of-00001.parquet", tmp_path / "d")
    assert name.endswith(".parquet") and found.endswith("bytes")


def test_shares_are_held_out_by_prompt_and_stay_when_the_source_grows(tmp_path: Path) -> None:
    """Of 2,000 prompts, a tenth has a standard deviation of 13, two hundredths of 6; five of those are allowed."""
    rows = [{"prompt": f"question {number // 2}", "answer": "x"} for number in range(4000)]
    shares = {"test": 0.1, "validation": 0.02}
    one = rows_of(tmp_path / "a", imported(lines(tmp_path / "one.jsonl", *rows[:2000]), tmp_path / "a", hold_out=shares))
    two = rows_of(tmp_path / "b", imported(lines(tmp_path / "two.jsonl", *rows), tmp_path / "b", hold_out=shares))
    prompts = {name: {row.prompt for row in split} for name, split in two.items()}
    assert abs(len(prompts["test"]) - 200) < 65 and abs(len(prompts["validation"]) - 40) < 30
    assert sum(map(len, prompts.values())) == 2000 and sum(map(len, two.values())) == 4000
    assert all({row.prompt for row in one[name]} <= prompts[name] for name in prompts)


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"split": "../x"}, "cannot be the name of a split"),
        ({"hold_out": {"a/b": 0.1}}, "cannot be the name of a split"),
        ({"hold_out": {"test": 1.0}}, "no part of the rows"),
        ({"hold_out": {"test": 0.6, "validation": 0.4}}, "no part of the rows"),
        ({"hold_out": {"train": 0.1}}, "splits of its own"),
    ],
)
def test_splits_that_cannot_be(tmp_path: Path, params: dict[str, Any], told: str) -> None:
    source = lines(tmp_path / "rows.jsonl", {"prompt": "a", "answer": "b"}, {"prompt": "c", "answer": "d"})
    with pytest.raises(UsageError, match=told):
        imported(source, tmp_path / "d", **params)
    with pytest.raises(UsageError, match="splits of its own"):
        imported(FIXTURES / "saved", tmp_path / "d", hold_out={"more": 0.1})


def test_the_verb(tmp_path: Path) -> None:
    said = interlock("data", "import", FIXTURES / "saved", "--map", "prompt=question", "steps=rationale", "--out", tmp_path / "d", "--json")
    contract = json.loads(said.out)["contract"]
    assert said.code == 0 and contract["task"] == "saved" and contract["created_by"]["stage"] == "data-import"
    assert "columns left out: level, when" in said.err
    interlock("data", "import", tmp_path / "absent", "--out", tmp_path / "e").refused(2, "there is no")
    interlock("data", "import", FIXTURES / "saved", "--map", "question", "--out", tmp_path / "e").refused(2, "`question` sets nothing")
    with pytest.raises(UsageError, match="a row has no field `text`"):
        imported(FIXTURES / "saved", tmp_path / "e", columns={"text": "question"})
