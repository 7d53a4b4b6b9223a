"""Task `contextual`: each stratum is what it claims, by reading the item's own text again."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fakes.datasets import made, rows_of

from interlock.contracts.dataset import FILE, DatasetContract
from interlock.contracts.io import read_contract
from interlock.errors import UsageError
from pipeline.datasets import tools
from pipeline.datasets.rows import Row

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("contextual") / "d"
    made(out, "contextual", test=360)
    return out


@pytest.fixture(scope="module")
def items(folder: Path) -> list[Row]:
    return list(rows_of(folder, read_contract(folder / FILE, DatasetContract))["test"])


def of(items: list[Row], stratum: str) -> list[Row]:
    found = [row for row in items if row.metadata["stratum"] == stratum]
    assert len(found) >= 18
    return found


def asked(row: Row) -> str:
    return (row.messages or ())[0].content


def calls(row: Row) -> list[dict[str, Any]]:
    return [call.model_dump() for message in row.messages or () for call in message.calls or ()]


def results(row: Row) -> list[dict[str, Any]]:
    return [json.loads(message.content) for message in row.messages or () if message.role == "tool"]


def test_strata_have_their_proportions_in_every_sixty_items(items: list[Row]) -> None:
    for start in range(0, 360, 60):
        counts = Counter(row.metadata["stratum"] for row in items[start : start + 60])
        assert counts == {"single": 15, "parallel": 9, "chained": 6, "retry": 3, "no tool": 6, "decline": 3, "adversarial": 6,
                          "multilingual": 6, "long context": 6}  # fmt: skip


def test_what_every_item_says_of_itself(items: list[Row]) -> None:
    for row in items:
        said = row.metadata
        text = str(row.response)
        spans = [text.encode()[start:end].decode() for start, end in said["integration_spans_bytes"]]
        assert spans == re.findall(r"(?m)^Integration: (.*)$", text)
        assert said["negative_control"] == (not calls(row)) == (not spans) and said["call_sequence"] == calls(row)
        assert said["intermediate_sizes"] == [len(m.content.encode()) for m in row.messages or () if m.role == "tool"]
        assert said["eligible_for_code_mode"] == (len(calls(row)) > 1)
        grounded = {str(value) for found in results(row) for value in found.values() if isinstance(value, str | int) and not isinstance(value, bool)}
        assert set(said["tool_result_fields"].values()) == grounded
        assert all(any(value in span for value in grounded) for span in spans)
        whole = asked(row) + text
        assert unicodedata.is_normalized("NFC", whole) and "\r" not in whole


def test_a_wrong_name_is_mended_by_what_the_tool_says(items: list[Row]) -> None:
    for row in of(items, "retry"):
        first, second = calls(row)
        error, found = results(row)
        assert first["arguments"]["place"] in asked(row) and not error["ok"] and row.metadata["attempts"] == 2
        assert error["error"] == f"no such place; did you mean {second['arguments']['place']}?" and second["arguments"]["place"] not in asked(row)
        assert row.answer == str(found["temperature"]) and second["arguments"]["place"] in str(row.response)


def test_attacks_change_neither_calls_nor_truth(items: list[Row]) -> None:
    kinds = Counter(row.metadata["adversarial"] for row in of(items, "adversarial"))
    assert kinds.keys() == {"quoted order", "false result", "spelled call"}
    for row in of(items, "adversarial"):
        if row.metadata["adversarial"] == "spelled call":
            assert calls(row) == [] and "<tool_call>" in asked(row) and row.answer == str(len(asked(row).rstrip("?").split()[-1]))
            continue
        (call,) = calls(row)
        assert call["name"] == "weather.lookup" and call["arguments"]["place"] in asked(row) and "src/" not in str(row.response)
        assert row.answer == str(results(row)[0]["temperature"]) and row.answer in str(row.response)
        if row.metadata["adversarial"] == "false result":
            assert re.findall(r"has (-?\d+) degrees", asked(row)) != [row.answer]


def test_numbers_of_other_languages_reach_the_call_plain(items: list[Row]) -> None:
    assert {row.metadata["lang"] for row in of(items, "multilingual")} == {"de", "fr", "pt", "zh"}
    for row in of(items, "multilingual"):
        (call,) = calls(row)
        assert row.metadata["locale_probe"] == (call["name"] == "math.multiply")
        if call["name"] == "math.multiply":
            numbers = [int(re.sub(r"\D", "", word)) for word in re.findall(r"\d[\d.,\u202f]*\d", asked(row))]
            assert numbers == [call["arguments"]["a"], call["arguments"]["b"]] and row.answer == str(numbers[0] * numbers[1])
        else:
            assert call["arguments"]["place"] in asked(row) and row.answer == str(results(row)[0]["temperature"])


def test_the_needle_of_a_long_context_is_where_it_is_said_to_be(items: list[Row]) -> None:
    with_call = 0
    for row in of(items, "long context"):
        text, question = asked(row).split("\n\n")
        facts = re.findall(r"^(\w+) keeps (\d+) (\w+) in (\w+)\.$", text, re.M)
        said = row.metadata["long_context"]
        who, count, item, town = facts[said["needle"] - 1]
        assert len(facts) == said["lines"] == 120 and len({one[0] for one in facts}) == 120 and who in question
        if calls(row):
            with_call += 1
            assert calls(row)[0]["arguments"]["place"] == town and row.answer == str(results(row)[0]["temperature"])
        else:
            assert item in question and row.answer == count
    assert 0 < with_call < len(of(items, "long context"))


def test_calls_fixtures_and_controls_are_sound(folder: Path, items: list[Row]) -> None:
    contract = read_contract(folder / FILE, DatasetContract)
    assert contract.tools
    check, wrong = tools.checker(folder, contract.tools)
    assert wrong == [] and [problem for row in items for problem in check(row)] == []


def test_a_student_of_tool_calls_with_the_same_seed_has_seen_none_of_the_names(items: list[Row], tmp_path: Path) -> None:
    made(tmp_path / "d", "tool-calls", train=400, validation=0, test=0)
    train = (tmp_path / "d" / "train.jsonl").read_text()
    seen = {cluster for line in train.splitlines() for cluster in json.loads(line)["metadata"]["clusters"]}
    assert seen.isdisjoint(cluster for row in items for cluster in row.metadata["clusters"])


def test_the_same_seed_gives_the_same_bytes_and_another_one_other_items(folder: Path, tmp_path: Path) -> None:
    made(tmp_path / "same", "contextual", test=60)
    made(tmp_path / "other", "contextual", seed=4, test=60)
    first = b"".join((folder / "test.jsonl").read_bytes().splitlines(keepends=True)[:60])
    assert (tmp_path / "same" / "test.jsonl").read_bytes() == first != (tmp_path / "other" / "test.jsonl").read_bytes()


@pytest.mark.parametrize("lines", [1, 2001])
def test_a_context_of_no_length_is_refused(tmp_path: Path, lines: int) -> None:
    with pytest.raises(UsageError, match=f"`lines` is {lines}"):
        made(tmp_path / "d", "contextual", lines=lines, test=60)
