"""Log-probabilities come back as they were written, and a file that a loss could not trust is refused with the place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.artifacts import write_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from interlock.contracts.dataset import DatasetContract
from interlock.errors import ContractError
from pipeline.training.teaching.answers import FORMS, Answer, Top, from_record, to_record
from pipeline.training.teaching.shards import packed, read_shards

pytestmark = pytest.mark.train


def top(seed: int, tokens: int, k: int = 2) -> Top:
    random = np.random.default_rng(seed)
    logprobs = -random.random((tokens, k)).astype(np.float16) - np.float16(1)
    ids = np.array([random.permutation(8)[:k] for _ in range(tokens)], np.int32).reshape(tokens, k)
    return Top(random.integers(0, 8, tokens).astype(np.int32), ids, logprobs, np.full(tokens, -2.0, np.float32))


def same(one: Top, other: Top) -> bool:
    return all(np.array_equal(getattr(one, part), getattr(other, part)) and getattr(one, part).dtype == getattr(other, part).dtype for part in FORMS)


def dataset(folder: Path, *files: bytes) -> DatasetContract:
    contract = write_dataset(folder)
    assert contract.teaching is not None
    names = tuple(f"train.teaching-{number:05d}.safetensors" for number in range(len(files)))
    for name, data in zip(names, files, strict=True):
        (folder / name).write_bytes(data)
    return contract.model_copy(update={"teaching": contract.teaching.model_copy(update={"files": names})})


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 400))
def test_every_row_comes_back_however_they_are_cut_into_files(tmp_path_factory: pytest.TempPathFactory, lengths: list[int], limit: int) -> None:
    answers = {f"7-train-{number}": top(number, tokens) for number, tokens in enumerate(lengths)}
    folder = tmp_path_factory.mktemp("shards")
    files = list(packed(answers.items(), limit))
    found = read_shards(folder, dataset(folder, *files))
    assert list(found) == list(answers)
    assert all(same(found[name], answers[name]) for name in answers)


@settings(deadline=None)
@given(st.integers(0, 9), st.integers(1, 8))
def test_an_answer_comes_back_from_the_journal(tokens: int, k: int) -> None:
    answer = Answer("a \u2028 b", 12, top(tokens, tokens, k), "fp")
    again = from_record(json.loads(json.dumps(to_record(answer))))
    assert (again.text, again.tokens, again.fingerprint) == (answer.text, answer.tokens, answer.fingerprint)
    assert answer.top is not None and again.top is not None and (same(answer.top, again.top) or tokens == 0)
    assert from_record(to_record(Answer("", 0, None, None))) == Answer("", 0, None, None)


def spoiled(name: str, change: Any) -> bytes:
    arrays = load(next(packed([("a", top(1, 3)), ("b", top(2, 2))])))
    arrays[name] = change(arrays[name])
    made: bytes = save(arrays, {"rows": '["a", "b"]'})
    return made


def put(place: Any, value: float) -> Any:
    def change(array: Any) -> Any:
        array = array.copy()
        array[place] = value
        return array

    return change


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "a safetensors file"),
        (b"\xff" * 40, "a safetensors file"),
        (save({"x": np.zeros(2)}, {"rows": "[]"}), "'x'"),
        (save({"x": np.zeros(2)}), "a list `rows` in the metadata"),
        (save({"x": np.zeros(2)}, {"rows": "{"}), "a safetensors file"),
        (spoiled("ids", lambda array: array.astype(np.int64)), "'ids': ('int64'"),
        (spoiled("logprobs", lambda array: array[:, :1]), "'logprobs': ('float16', (5, 1))"),
        (spoiled("offsets", lambda array: array[:-1]), "'offsets': ('int64', (2,))"),
        (spoiled("offsets", put(1, 9)), "numbers that rise from 0 to 5"),
        (spoiled("offsets", put(0, 1)), "numbers that rise from 0 to 5"),
        (spoiled("ids", put((0, 0), 8)), "ids from 0 to 7"),
        (spoiled("tokens", put(0, -1)), "ids from 0 to 7"),
        (spoiled("logprobs", put((0, 0), 0.5)), "logarithms of probabilities"),
        (spoiled("tail", put(0, np.nan)), "logarithms of probabilities"),
        (next(packed([("a", top(1, 1)), ("a", top(1, 1))])), "each row once"),
    ],
)
def test_a_file_that_cannot_be_trusted_is_refused(tmp_path: Path, data: bytes, told: str) -> None:
    with pytest.raises(ContractError) as refused:
        read_shards(tmp_path, dataset(tmp_path, data))
    assert told in "\n".join(refused.value.lines())
