"""Task `tool-calls`: calls that their schemas take, results that fixtures replay, truths by another computation, controls without a call."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jsonschema")
from fakes.datasets import made, rows_of
from jsonschema import Draft202012Validator

from pipeline.datasets.rows import Row

pytestmark = pytest.mark.train

FEW = {"train": 400, "validation": 40, "test": 100}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tools") / "d"
    made(out, "tool-calls", **FEW)
    return out


@pytest.fixture(scope="module")
def rows(folder: Path) -> list[Row]:
    from interlock.contracts.dataset import FILE, DatasetContract
    from interlock.contracts.io import read_contract

    return [row for split in rows_of(folder, read_contract(folder / FILE, DatasetContract)).values() for row in split]


@pytest.fixture(scope="module")
def fixtures(folder: Path) -> dict[str, Any]:
    found = [json.loads(line) for line in (folder / "fixtures.jsonl").read_text().splitlines()]
    assert len({one["digest"] for one in found}) == len(found)
    return {json.dumps([one["name"], one["key"]], sort_keys=True): one for one in found}


def calls_of(row: Row) -> list[dict[str, Any]]:
    return [call.model_dump() for message in row.messages or () for call in message.calls or ()]


def test_every_call_is_one_that_its_schema_takes_and_was_offered(folder: Path, rows: list[Row]) -> None:
    tools = json.loads((folder / "tools.json").read_text())
    for tool in tools.values():
        Draft202012Validator.check_schema(tool["parameters"])
    for row in rows:
        assert row.metadata["call_sequence"] == calls_of(row)
        for call in calls_of(row):
            assert call["name"] in row.metadata["tools"]
            assert list(Draft202012Validator(tools[call["name"]]["parameters"]).iter_errors(call["arguments"])) == []
            defaults = {name for name, one in tools[call["name"]]["parameters"]["properties"].items() if "default" in one}
            assert defaults <= call["arguments"].keys() and list(call["arguments"]) == sorted(call["arguments"])


def test_every_call_has_one_fixture_whose_digest_and_result_are_those_of_the_dialogue(rows: list[Row], fixtures: dict[str, Any]) -> None:
    used = set()
    for row in rows:
        replies = [json.loads(message.content) for message in row.messages or () if message.role == "tool"]
        for call, reply in zip(calls_of(row), replies, strict=True):
            key = json.dumps([call["name"], call["arguments"]], sort_keys=True)
            compact = json.dumps([call["name"], call["arguments"]], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            assert fixtures[key]["digest"] == hashlib.sha256(compact.encode()).hexdigest() and fixtures[key]["result"] == reply
            used.add(key)
    assert used == fixtures.keys()


def test_the_truth_of_a_call_stands_in_its_result_and_in_the_response(rows: list[Row]) -> None:
    for row in rows:
        calls = calls_of(row)
        if not calls:
            continue
        results = " ".join(message.content for message in row.messages or () if message.role == "tool")
        for truth in str(row.answer).split("; "):
            assert truth in results and truth in str(row.response)
        if calls[0]["name"] == "math.multiply":
            assert row.answer == str(calls[0]["arguments"]["a"] * calls[0]["arguments"]["b"])
        if row.metadata["stratum"] == "chained":
            town = json.loads(next(message.content for message in row.messages or () if message.role == "tool"))["town"]
            assert [call["name"] for call in calls] == ["people.find", "weather.lookup"] and calls[1]["arguments"]["place"] == town
            assert town not in str((row.messages or ())[0].content)
        spans = [line for line in str(row.response).splitlines() if line.startswith("Integration: ")]
        assert len(spans) == (2 if row.metadata["stratum"] == "parallel" else 1)


def test_controls_call_nothing_and_are_right(rows: list[Row]) -> None:
    words = {
        "capital letters": str.upper, "How many letters": lambda word: str(len(word)), "first letter": lambda word: word[:1],
        "backwards": lambda word: "".join(reversed(word.lower())), "last letter": lambda word: word[-1:], "comma": lambda word: ",".join(list(word)),
        "twice": lambda word: " ".join([word] * 2), "goodbye": lambda word: f"Goodbye, {word}!",
    }  # fmt: skip
    seen = set()
    for row in rows:
        if row.metadata["expected_behaviour"] == "normal":
            continue
        assert calls_of(row) == [] and len(row.messages or ()) == 1 and row.answer == row.response
        if row.metadata["stratum"] == "no tool":
            asked = (row.messages or ())[0].content
            (rule,) = [one for one in words if one in asked]
            seen.add(rule)
            assert row.answer == words[rule](row.metadata["clusters"][0])
    assert len(seen) == 8


def test_proportions_are_kept_in_every_split(folder: Path, rows: list[Row]) -> None:
    for split, count in FEW.items():
        counts = Counter(row.metadata["stratum"] for row in rows if f"-{split}-" in row.id)
        assert counts == {name: count * share // 20 for name, share in
                          {"single": 10, "parallel": 3, "chained": 3, "no tool": 2, "decline": 2}.items()}  # fmt: skip


def test_no_split_knows_a_name_or_a_template_of_another(rows: list[Row]) -> None:
    owners: dict[str, set[str]] = {}
    for row in rows:
        for cluster in row.metadata["clusters"]:
            owners.setdefault(cluster, set()).add(row.id.split("-")[1])
    assert len(owners) > 500 and all(len(splits) == 1 for splits in owners.values())
    assert sum(cluster.startswith("template ") for cluster in owners) > 60


def test_the_same_seed_gives_the_same_bytes_and_another_one_another_world(folder: Path, tmp_path: Path) -> None:
    made(tmp_path / "same", "tool-calls", **FEW)
    made(tmp_path / "other", "tool-calls", seed=4, **FEW)
    for name in ("train.jsonl", "test.jsonl", "fixtures.jsonl", "tools.json"):
        assert (tmp_path / "same" / name).read_bytes() == (folder / name).read_bytes()
    assert (tmp_path / "other" / "tools.json").read_bytes() == (folder / "tools.json").read_bytes()
    assert (tmp_path / "other" / "fixtures.jsonl").read_bytes() != (folder / "fixtures.jsonl").read_bytes()
