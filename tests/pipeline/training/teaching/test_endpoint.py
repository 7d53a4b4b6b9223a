"""An endpoint as the teacher, a real server in a process of its own: what it is sent, what is made of its answers, and every way it can fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.datasets import made, rows_of
from fakes.teacher_server import answer_to, likely
from fakes.teachers import log, serving, small_teacher, taught

from interlock.contracts import io
from interlock.contracts.checkpoint import CheckpointContract
from interlock.contracts.dataset import DatasetContract
from interlock.errors import ContractError, StageFailed, UsageError
from pipeline.datasets.rows import Call, Message, Row
from pipeline.training.teaching.answers import Capture
from pipeline.training.teaching.endpoint import request_of
from pipeline.training.teaching.shards import read_shards

pytestmark = pytest.mark.train

KEY = "sk-not-to-be-seen-7f3a"
ROWS = 12


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as address:
        yield address


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("endpoint")
    made(folder / "data", "permutation-automaton", train=ROWS, validation=0, test=6)
    small_teacher(folder / "student")
    return folder


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer is kept from another test."""
    monkeypatch.setenv("INTERLOCK_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def files_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_answers_and_log_probabilities_are_what_the_server_said(place: Path, url: str, tmp_path: Path) -> None:
    student = io.read_artifact(place / "student", CheckpointContract)
    options: dict[str, Any] = {"top_k": 5, "tokenizer": place / "student", "student": place / "student", "seed": 11}
    contract = taught(tmp_path / "out", place / "data", url, model="good", **options)
    kept = read_shards(tmp_path / "out", contract)
    assert student.tokenizer is not None and contract.teaching is not None
    assert (contract.teaching.teacher, contract.teaching.name, contract.teaching.seed) == (None, "good", 11)
    assert (contract.teaching.system_fingerprints, contract.tokenizer) == (("fp_7",), student.tokenizer.sha256)
    vocabulary = json.loads((place / "student" / "tokenizer.json").read_bytes())["model"]["vocab"]
    for row in rows_of(tmp_path / "out", contract)["train"]:
        assert row.response == answer_to(str(row.prompt))
        top = kept[row.id]
        assert top.tokens.tolist() == [vocabulary[char] for char in row.response]
        assert top.ids.tolist() == [[vocabulary[char] for char, _ in likely(said, 5)] for said in row.response]
        assert np.abs(top.logprobs + np.log(2.0) * np.arange(1, 6)).max() < 4 * 2.0**-11
        assert top.tail == pytest.approx(np.full(len(row.response), np.log(2.0**-5)), abs=1e-5)


def test_it_is_sent_the_settings_and_nothing_that_was_not_asked_for(place: Path, url: str, tmp_path: Path) -> None:
    taught(tmp_path / "a", place / "data", url, model="plain", max_new_tokens=33)
    bodies = [one["body"] for one in log(url, "plain")]
    prompts = {row.prompt for row in rows_of(place / "data", io.read_artifact(place / "data", DatasetContract))["train"]}
    assert {body["messages"][0]["content"] for body in bodies} == prompts
    assert all(set(body) == {"model", "messages", "max_tokens", "temperature"} and body["max_tokens"] == 33 for body in bodies)
    taught(tmp_path / "b", place / "data", f"{url}/", model="drawn", temperature=0.7, seed=5, top_k=2, tokenizer=place / "student")
    one = log(url, "drawn")[0]
    assert one["path"] == "/v1/chat/completions" and one["key"] is None
    assert (one["body"]["temperature"], one["body"]["seed"], one["body"]["logprobs"], one["body"]["top_logprobs"]) == (0.7, 5, True, 2)


def test_a_dialogue_is_sent_with_its_calls() -> None:
    calls = (Call(name="add", arguments={"a": 1}), Call(name="now", arguments={}))
    messages = (
        Message(role="system", content="Be brief."),
        Message(role="user", content="1 and 1?"),
        Message(role="assistant", content="", calls=calls),
        Message(role="tool", content="2"),
        Message(role="tool", content="noon"),
    )
    asked = request_of(Row(id="x", messages=messages, answer="2"), "m", Capture(0.0, None, 8, 0))["messages"]
    assert asked[1] == {"role": "user", "content": "1 and 1?"}
    assert [one["function"] for one in asked[2]["tool_calls"]] == [{"name": "add", "arguments": '{"a": 1}'}, {"name": "now", "arguments": "{}"}]
    assert [one["tool_call_id"] for one in asked[3:]] == [one["id"] for one in asked[2]["tool_calls"]]


def test_the_key_goes_to_the_server_and_nowhere_else(place: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    taught(tmp_path / "out", place / "data", url, model="keyed", key_variable="MY_KEY")
    assert {one["key"] for one in log(url, "keyed")} == {f"Bearer {KEY}"}
    with pytest.raises(StageFailed, match="401") as refused:
        taught(tmp_path / "no", place / "data", url, model="wrong-key", key_variable="MY_KEY")
    assert KEY not in "".join(refused.value.lines()) and "not with Bearer [key]" in refused.value.problem
    assert KEY.encode() not in files_of(tmp_path)
    with pytest.raises(UsageError, match=r"would be sent unencrypted to `teacher\.example`"):
        taught(tmp_path / "no", place / "data", "http://teacher.example/v1", model="keyed", key_variable="MY_KEY")
    monkeypatch.setenv("MY_KEY", "two\nlines")
    with pytest.raises(UsageError, match="is no key"):
        taught(tmp_path / "no", place / "data", url, model="keyed", key_variable="MY_KEY")


RUBBISH = {
    "html": "not JSON.*nginx",
    "empty": "expected one JSON object",
    "text": "The answer is 4",
    "array": "a JSON array",
    "half": "not JSON",
    "nan": "NaN",
    "keys": "2 times",
    "latin": "not UTF-8",
    "deep": "nesting",
    "endless": "at most 16777216 bytes, found more",
    "no-choices": "nothing at choices/0",
    "no-text": "a text in choices/0/message/content, found None",
    "no-logprobs": "3 log-probabilities per token, found none",
    "few-logprobs": "3 log-probabilities per token, found 2 at token",
    "other-tokens": "the answer's own tokens, found those of `!",
    "too-likely": r"sum to at most 1, found 1\.\d+ at token 0",
    "twice": "one twice in top_logprobs of token 0",
    "positive": "a token with its log-probability at token 0, top_logprobs",
    "words": "a token with its log-probability at token 0, found .*likely",
    "no-model": "status 200, found 404 Not Found",
    "bad-request": "status 200, found 400",
    "elsewhere": "status 200, found 302",
}


@pytest.mark.parametrize("model", list(RUBBISH))
def test_rubbish_ends_the_run_with_what_was_found(place: Path, url: str, tmp_path: Path, model: str) -> None:
    """Once: another attempt would find the same, and cost the same."""
    with pytest.raises(StageFailed, match=RUBBISH[model]) as failed:
        taught(tmp_path / "out", place / "data", url, model=model, top_k=3, tokenizer=place / "student", at_once=1)
    assert failed.value.exit_code == 5 and f"teacher `{model}`" in failed.value.problem
    assert len(log(url, model)) == 1 and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("model", "found"),
    [("late", "none in that time"), ("dribbles", "none in that time"), ("closes", "closed before"), ("stops-short", "closed before"),
     ("broken", "found 500"), ("busy", "found 429")],
)  # fmt: skip
def test_what_may_pass_is_tried_again_and_then_told(place: Path, url: str, tmp_path: Path, model: str, found: str) -> None:
    started = time.monotonic()
    with pytest.raises(StageFailed, match=found):
        taught(tmp_path / "out", place / "data", url, model=model, at_once=1, retries=1, timeout_s=0.5)
    assert len(log(url, model)) == 2
    assert time.monotonic() - started < 8  # two attempts of half a second, a wait of at most one, and a busy machine


def test_a_server_that_recovers_is_waited_for(place: Path, url: str, tmp_path: Path) -> None:
    contract = taught(tmp_path / "out", place / "data", url, model="recovers", retries=2)
    assert len(log(url, "recovers")) == 3 * ROWS
    assert all(row.response == answer_to(str(row.prompt)) for row in rows_of(tmp_path / "out", contract)["train"])


def test_nobody_there_is_told_as_such(place: Path, tmp_path: Path) -> None:
    with serving() as gone:
        pass
    with pytest.raises(StageFailed, match=r"ConnectionRefusedError.*1 times"):
        taught(tmp_path / "out", place / "data", gone, model="good", retries=0)


def test_a_foreign_token_means_another_tokenizer(place: Path, url: str, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"has a token `zebra`, found 261 ids, sha256 [0-9a-f]{64}"):
        taught(tmp_path / "out", place / "data", url, model="foreign-token", top_k=3, tokenizer=place / "student")


def test_a_failure_keeps_what_was_answered(place: Path, url: str, tmp_path: Path) -> None:
    """Five prompts are answered, the sixth is refused: the next run asks only for those that are missing."""
    with pytest.raises(StageFailed, match=r"402.*insufficient funds") as failed:
        taught(tmp_path / "out", place / "data", url, model="stops-at-5", at_once=3)
    assert "answers that came are kept" in failed.value.remedy
    first = [one["body"]["messages"][0]["content"] for one in log(url, "stops-at-5")]
    with pytest.raises(StageFailed, match="402"):
        taught(tmp_path / "out", place / "data", url, model="stops-at-5", at_once=1)
    second = [one["body"]["messages"][0]["content"] for one in log(url, "stops-at-5")][len(first) :]
    assert not set(second) & set(first[:5]) and len(second) == 1


@pytest.mark.parametrize(("budget", "told"), [({"max_requests": 5}, "5 requests"), ({"max_tokens": 60}, "60 tokens")])
def test_a_budget_ends_a_run_in_words_and_the_next_goes_on(place: Path, url: str, tmp_path: Path, budget: dict[str, int], told: str) -> None:
    """Requests are counted before they are sent, tokens when they have come: with one question at a time, at most one answer beyond the budget."""
    model = f"good-{next(iter(budget))}"
    runs = []
    for _ in range(ROWS):
        before = len(log(url, model))
        try:
            contract = taught(tmp_path / "out", place / "data", url, model=model, at_once=1, **budget)
            break
        except StageFailed as over:
            assert f"the budget of {told} is used up" in over.problem and not (tmp_path / "out").exists()
        runs.append([one["body"]["messages"][0]["content"] for one in log(url, model)][before:])
    prompts = [one["body"]["messages"][0]["content"] for one in log(url, model)]
    assert len(prompts) == len(set(prompts)) == len({row.prompt for row in rows_of(tmp_path / "out", contract)["train"]})
    for asked in runs:
        costs = [1 if "max_requests" in budget else 10 + len(answer_to(prompt)) for prompt in asked]
        assert sum(costs[:-1]) < next(iter(budget.values())) <= sum(costs)
    assert runs
    unbound = taught(tmp_path / "again", place / "data", url, model=model)
    assert unbound.digest == contract.digest and len(log(url, model)) == len(prompts)


def test_a_fingerprint_that_changes_is_in_the_contract(place: Path, url: str, tmp_path: Path) -> None:
    contract = taught(tmp_path / "out", place / "data", url, model="changed", at_once=1)
    assert contract.teaching is not None and contract.teaching.system_fingerprints == ("fp_0", "fp_1")


def test_a_run_that_is_killed_goes_on_where_it_was(place: Path, url: str, tmp_path: Path) -> None:
    """The command itself, killed with SIGKILL between two answers; then run again: at most the question that was on its way is asked twice."""
    command = [sys.executable, "-m", "pipeline.cli", "data", "teach", str(place / "data"), "--teacher", url, "--model", "unhurried", "--at-once", "1"]
    command += ["--out", str(tmp_path / "out"), "--json"]
    environment = {**os.environ, "INTERLOCK_HOME": str(tmp_path / "home")}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while len(log(url, "unhurried")) < 4:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    assert not (tmp_path / "out").exists()
    contract = taught(tmp_path / "out", place / "data", url, model="unhurried", at_once=1)
    prompts = [one["body"]["messages"][0]["content"] for one in log(url, "unhurried")]
    assert len(set(prompts)) <= len(prompts) <= len(set(prompts)) + 1
    assert all(row.response == answer_to(str(row.prompt)) for row in rows_of(tmp_path / "out", contract)["train"])


@pytest.mark.parametrize(
    ("others", "told"),
    [
        ({"teacher": "ftp://x/v1"}, "no address of an endpoint"),
        ({"teacher": "http://user:secret@x/v1"}, "no address of an endpoint"),
        ({"teacher": "http://x:port/v1"}, "no address of an endpoint"),
        ({"teacher": "http://x/v1?key=1"}, "no address of an endpoint"),
        ({"model": None}, "an endpoint has many models"),
        ({"top_k": 21}, "at most 20 log-probabilities"),
        ({"top_k": 3}, "need its tokenizer"),
    ],
)
def test_what_makes_no_sense_is_refused_without_a_question(place: Path, tmp_path: Path, others: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        taught(tmp_path / "out", place / "data", **{"teacher": "http://127.0.0.1:9/v1", "model": "good", **others})
