"""`interlock data check`: figures that can be counted by hand, and every problem with its file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.datasets import made, written
from fakes.shell import interlock

from pipeline.datasets import tokenizer
from pipeline.datasets.check import quantiles

pytestmark = pytest.mark.train


def row(name: str, prompt: str, answer: str = " 1", **others: Any) -> dict[str, Any]:
    return {"id": name, "prompt": prompt, "answer": answer, **others}


def checked(folder: Path, *options: object) -> tuple[int, dict[str, Any]]:
    said = interlock("data", "check", folder, *options, "--json")
    assert "Traceback" not in said.err
    return said.code, json.loads(said.out)


def problems(told: dict[str, Any]) -> list[tuple[str, str]]:
    assert told["problem_count"] == len(told["problems"])
    return [(Path(one["file"]).name, one["where"]) for one in told["problems"]]


def test_a_sound_dataset_has_figures_and_no_problem(tmp_path: Path) -> None:
    """Every row of depth k has 3 + 2 tokens of prompt, which has room for the greatest depth, three of each step, one of answer."""
    made(tmp_path / "d", "permutation-automaton", depths="2..3", train=400, validation=0, test=100)
    assert interlock("data", "tokenizer", tmp_path / "d", "--vocab-size", 320, "--out", tmp_path / "t").code == 0
    code, told = checked(tmp_path / "d", "--tokenizer", tmp_path / "t", "--max-tokens", 15)
    assert (code, told["problem_count"], list(told["splits"])) == (0, 0, ["train", "test"])
    test = told["splits"]["test"]
    assert (test["rows"], test["repeated_prompts"], test["strata"]) == (100, 0, {"depth 2": 50, "depth 3": 50})
    assert test["steps"] == {"least": 2, "median": 2, "p95": 3, "most": 3}
    assert test["tokens"] == {"least": 5 + 6 + 1, "median": 12, "p95": 5 + 9 + 1, "most": 15} and test["token_count"] == 50 * 12 + 50 * 15
    assert test["answers"]["distinct"] == 8 and sum(count for _, count in test["answers"]["most_common"]) <= 100
    said = interlock("data", "check", tmp_path / "d")
    assert said.code == 0 and "nothing is wrong" in said.out and "repeated prompts" in said.out


def test_every_problem_between_rows_is_named(tmp_path: Path) -> None:
    written(tmp_path / "d", {
        "train": [
            row("a", "one"), row("b", "one"), row("c", "one", " 2"), row("C", "One", " 3"), row("a", "two"), row("d", "held out"), {"id": "e"},
            row("f", "three", metadata={"clusters": ["town"]}),
        ],
        "test": [row("g", "held  out"), row("h", "held  out"), row("i", "four", metadata={"clusters": ["town"]})],
    })  # fmt: skip
    code, told = checked(tmp_path / "d")
    assert code == 3 and problems(told) == [
        ("test.jsonl", "line 2 /prompt"),
        ("train.jsonl", "line 3 /answer"),
        ("train.jsonl", "line 5 /id"),
        ("train.jsonl", "line 6 /prompt"),
        ("train.jsonl", "line 7 /"),
        ("train.jsonl", "line 8 /metadata/clusters"),
    ]
    assert told["splits"]["train"]["repeated_prompts"] == 2 and "`town`" in told["problems"][-1]["found"]
    said = interlock("data", "check", tmp_path / "d")
    assert said.code == 3 and "train.jsonl line 5 /id: expected an id of its own, found that of train.jsonl line 1" in said.out


def test_a_changed_file_is_told_and_its_rows_are_looked_at_all_the_same(tmp_path: Path) -> None:
    written(tmp_path / "d", {"train": [row("a", "one"), row("b", "two")]})
    (tmp_path / "d" / "train.jsonl").write_text(json.dumps(row("a", "one")) + "\nnonsense\n")
    code, told = checked(tmp_path / "d")
    assert code == 3 and problems(told) == [("train.jsonl", ""), ("train.jsonl", "line 2 column 1")]
    (tmp_path / "d" / "dataset_contract.json").write_text("{}")
    interlock("data", "check", tmp_path / "d").refused(3, "dataset_contract.json at /kind")


def test_rows_that_are_too_long_and_texts_that_a_tokenizer_loses(tmp_path: Path) -> None:
    """A vocabulary without the bytes of `z`: what it cannot say is dropped."""
    written(tmp_path / "d", {"train": [row("a", "aa aa aa"), row("b", "jazz"), row("c", "aa")]})
    document = json.loads(tokenizer.train(["aa aa"], 300))
    vocabulary = {token: number for token, number in document["model"]["vocab"].items() if token != "z"}
    document["model"]["vocab"] = {token: number for number, token in enumerate(vocabulary)}
    for name, data in tokenizer.directory(json.dumps(document).encode()).items():
        (tmp_path / name).write_bytes(data)
    code, told = checked(tmp_path / "d", "--tokenizer", tmp_path, "--max-tokens", 4)
    assert code == 3 and problems(told) == [("train.jsonl", "line 1"), ("train.jsonl", "line 2")]
    assert [one["expected"] for one in told["problems"]] == ["at most 4 tokens", "texts that come back from their tokens"]
    interlock("data", "check", tmp_path / "d", "--max-tokens", 4).refused(2, "counts by no tokenizer")


def test_calls_are_checked_where_there_are_tools(tmp_path: Path) -> None:
    made(tmp_path / "d", "tool-calls", train=20, validation=0, test=20)
    assert checked(tmp_path / "d")[0] == 0
    rows = (tmp_path / "d" / "train.jsonl").read_text().splitlines()
    first = json.loads(rows[0])
    first["messages"][1]["calls"][0]["arguments"]["surprise"] = 1
    (tmp_path / "d" / "train.jsonl").write_text("\n".join([json.dumps(first), *rows[1:]]) + "\n")
    code, told = checked(tmp_path / "d")
    assert code == 3 and problems(told)[0] == ("train.jsonl", "") and problems(told)[1][1].endswith("surprise")


@pytest.mark.parametrize("count", [1, 2, 3, 19, 20, 21, 100, 101])
def test_quantiles_are_values_with_as_many_below(count: int) -> None:
    """By their definition: the least value that at least half, or 95 of a hundred, do not exceed."""
    values = [(7 * number) % count for number in range(count)] if count % 7 else list(range(count, 0, -1))
    found = quantiles(values)
    assert found and (found["least"], found["most"]) == (min(values), max(values))
    for name, share in (("median", 50), ("p95", 95)):
        assert found[name] == min(value for value in values if 100 * sum(other <= value for other in values) >= share * count)
    assert quantiles([]) is None
