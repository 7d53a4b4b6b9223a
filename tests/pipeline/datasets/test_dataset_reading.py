"""Rows from files that are not trusted: what is taken, and every violation with its file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.artifacts import write_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.contracts.dataset import DatasetContract, Split
from interlock.errors import ContractError, UsageError
from interlock.voice import SilentVoice
from pipeline.datasets import reading
from pipeline.datasets.rows import Row, likeness

pytestmark = pytest.mark.train

GOOD: dict[str, Any] = {"id": "a", "prompt": "1 + 1 =", "steps": [" two"], "answer": " 2", "metadata": {"depth": 1}}


def contract_of(folder: Path, *files: str, rows: int) -> DatasetContract:
    return write_dataset(folder / "other").model_copy(update={"splits": {"train": Split(files=files, rows=rows)}})


def told(folder: Path, *lines: bytes | dict[str, Any]) -> list[tuple[str, str]]:
    """The places and what was expected there, of a split of these lines."""
    data = b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)
    (folder / "rows.jsonl").write_bytes(data)
    with pytest.raises(ContractError) as refused:
        reading.read_split(folder, contract_of(folder, "rows.jsonl", rows=len(lines)), "train", SilentVoice())
    assert all(one.file == str(folder / "rows.jsonl") for one in refused.value.violations)
    return [(one.where, one.expected) for one in refused.value.violations]


@pytest.mark.parametrize(
    ("line", "where", "expected"),
    [
        (b"", "line 2", "one JSON object"),
        (b"[1]", "line 2", "one strict JSON object"),
        (b'{"id": "b", "id": "c", "prompt": "", "answer": ""}', "line 2 /id", "each key once"),
        (b'{"id": "b", "prompt": "x", "answer": "\xff"}', "line 2", "one strict JSON object"),
        (b'{"id": "b", "prompt": "x", "answer": NaN}', "line 2 /answer", "a number"),
        (GOOD | {"id": ""}, "line 2 /id", "String should have at least 1 character"),
        (GOOD | {"id": "b", "steps": "two"}, "line 2 /steps", "Input should be a valid array"),
        (GOOD | {"id": "b", "steps": [""]}, "line 2 /steps/0", "String should have at least 1 character"),
        (GOOD | {"id": "b", "extra": 1}, "line 2 /extra", "Extra inputs are not permitted"),
        (GOOD | {"id": "b", "answer": None}, "line 2 /", "Value error, a row has an answer or a response"),
        (GOOD | {"id": "b", "messages": [{"role": "user", "content": "x"}]}, "line 2 /", "Value error, a row has a prompt or messages, and not both"),
        ({"id": "b", "messages": [{"role": "user", "content": "x", "calls": [{"name": "f", "arguments": {}}]}], "answer": "x"}, "line 2 /messages/0",
         "Value error, a user message calls no tool"),
        (GOOD, "line 2 /id", "an id of its own"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named(tmp_path: Path, line: bytes | dict[str, Any], where: str, expected: str) -> None:
    assert told(tmp_path, GOOD, line) == [(where, expected)]


@pytest.mark.parametrize(
    ("line", "where"),
    [
        (json.dumps(GOOD | {"teacher_reasoning_content": "hm"}).encode(), "/teacher_reasoning_content"),
        (json.dumps(GOOD | {"metadata": {"a": [{"teacher_reasoning_content": None}]}}).encode(), "/metadata/a/0/teacher_reasoning_content"),
        (b'{"id": "a", "prompt": "", "answer": "", "metadata": {"teacher\\u005freasoning_content": 1}}', "/metadata/teacher_reasoning_content"),
    ],
)
def test_the_reasoning_of_a_teacher_is_refused_wherever_it_stands(tmp_path: Path, line: bytes, where: str) -> None:
    assert told(tmp_path, line) == [(f"line 1 {where}", "no reasoning of a teacher: its terms forbid to train on it")]


def test_a_text_that_only_speaks_of_it_is_taken(tmp_path: Path) -> None:
    row = GOOD | {"answer": "teacher_reasoning_content"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    (read,) = reading.read_split(tmp_path, contract_of(tmp_path, "rows.jsonl", rows=1), "train", SilentVoice())
    assert read.answer == "teacher_reasoning_content"


def test_every_bad_line_is_told_at_once_and_a_hundred_are_enough(tmp_path: Path) -> None:
    found = told(tmp_path, *[{"id": str(number)} for number in range(300)])
    assert [where for where, _ in found] == [f"line {number} /" for number in range(1, 101)]


def test_a_line_without_end_is_cut_short(tmp_path: Path) -> None:
    assert told(tmp_path, GOOD, b'"' + b"x" * (reading.MAX_LINE + 10), GOOD) == [("line 2", "one strict JSON object")]


def test_files_of_a_split_are_one_sequence(tmp_path: Path) -> None:
    for name, ids in (("one.jsonl", "ab"), ("two.jsonl", "cb")):
        (tmp_path / name).write_text("".join(json.dumps(GOOD | {"id": letter}) + "\n" for letter in ids))
    with pytest.raises(ContractError) as refused:
        reading.read_split(tmp_path, contract_of(tmp_path, "one.jsonl", "two.jsonl", rows=4), "train", SilentVoice())
    (wrong,) = refused.value.violations
    assert (Path(wrong.file).name, wrong.where, wrong.found) == ("two.jsonl", "line 2 /id", "that of one.jsonl line 2")


def test_a_split_that_is_not_there_and_rows_that_are_fewer(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(GOOD) + "\n")
    with pytest.raises(UsageError, match="has no split `dev`"):
        reading.read_split(tmp_path, contract_of(tmp_path, "rows.jsonl", rows=1), "dev", SilentVoice())
    with pytest.raises(ContractError, match="expected 2 rows"):
        reading.read_split(tmp_path, contract_of(tmp_path, "rows.jsonl", rows=2), "train", SilentVoice())


texts = st.text(st.characters(exclude_categories=["Cs"]))
scalars = st.none() | st.booleans() | st.integers(-(1 << 53), 1 << 53) | texts
metadata = st.dictionaries(texts, st.recursive(scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=5), max_size=3)


@settings(deadline=None)
@given(prompt=texts, steps=st.none() | st.lists(texts.filter(bool), max_size=4), answer=texts, metadata=metadata)
def test_a_row_comes_back_from_its_line(
    tmp_path_factory: pytest.TempPathFactory, prompt: str, steps: list[str] | None, answer: str, metadata: dict[str, Any]
) -> None:
    file = tmp_path_factory.getbasetemp() / "row.jsonl"
    row = Row(id="x", prompt=prompt, steps=None if steps is None else tuple(steps), answer=answer, metadata=metadata)
    file.write_bytes(row.line())
    (line,) = reading.read_lines(file)
    assert (line.row, line.wrong) == (row, ()) and row.line().count(b"\n") == 1


def test_prompts_are_alike_that_differ_in_case_spacing_and_composition() -> None:
    assert likeness("Caf\u00e9  au\nlait") == likeness(" cafe\u0301 AU lait ") != likeness("cafe au lait")
