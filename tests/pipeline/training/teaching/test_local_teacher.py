"""A checkpoint as the teacher: its answers, and log-probabilities that are those of the student module on the same text."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.artifacts import resealed, write_dataset
from fakes.byte_tokenizer import info_of, tokenizer_json
from fakes.datasets import made, rows_of
from fakes.teachers import small_teacher, taught

from interlock.contracts import io
from interlock.contracts.checkpoint import CheckpointContract
from interlock.contracts.dataset import DatasetContract
from interlock.errors import ContractError, StageFailed, UsageError
from pipeline.training.losses.distillation import distillation
from pipeline.training.losses.rows import Head
from pipeline.training.losses.teachers import TopKTeacher
from pipeline.training.teaching.shards import read_shards
from runtime.engine.tokenizer import Tokenizer
from runtime.student.checkpoint import load_student

pytestmark = pytest.mark.train

ROWS = {"train": 12, "validation": 3, "test": 6}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teaching")
    small_teacher(folder / "teacher")
    made(folder / "data", "permutation-automaton", **ROWS)
    taught(folder / "taught", folder / "data", str(folder / "teacher"), top_k=8, max_new_tokens=10)
    return folder


def contract_of(folder: Path) -> DatasetContract:
    return io.read_artifact(folder, DatasetContract)


def test_rows_keep_their_truth_and_gain_a_response(place: Path) -> None:
    before, after = (rows_of(place / name, contract_of(place / name)) for name in ("data", "taught"))
    assert [row.model_copy(update={"response": None}) for row in after["train"]] == list(before["train"])
    assert all(row.response is not None for row in after["train"])
    assert (after["validation"], after["test"]) == (before["validation"], before["test"])


def test_the_contract_says_whose_answers_and_which_settings(place: Path) -> None:
    taught, data, teacher = contract_of(place / "taught"), contract_of(place / "data"), io.read_artifact(place / "teacher", CheckpointContract)
    assert taught.teaching is not None and teacher.tokenizer is not None
    assert (taught.teaching.teacher, taught.teaching.name) == (teacher.digest, "random:0")
    assert (taught.teaching.temperature, taught.teaching.seed, taught.teaching.max_new_tokens, taught.teaching.top_k) == (0.0, None, 10, 8)
    assert (taught.teaching.tail, taught.teaching.vocab_size, taught.tokenizer) == ("bucket", teacher.tokenizer.vocab_size, teacher.tokenizer.sha256)
    assert [(one.kind, one.digest) for one in taught.inputs] == [("dataset", data.digest), ("checkpoint", teacher.digest)]
    assert (taught.generator, taught.task, taught.licence) == (data.generator, data.task, data.licence)


def test_a_step_of_a_build_goes_on_from_its_own_folder_and_takes_it_away(place: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with pytest.raises(StageFailed, match="5 requests"):
        taught(tmp_path / "out", place / "data", str(place / "teacher"), top_k=8, max_new_tokens=10, state=state, max_requests=5)
    [kept] = state.iterdir()
    assert len(kept.read_bytes().splitlines()) == 5
    contract = taught(tmp_path / "out", place / "data", str(place / "teacher"), top_k=8, max_new_tokens=10, state=state)
    assert contract.splits == contract_of(place / "taught").splits and not state.exists()


def test_log_probabilities_are_those_of_the_student_on_the_same_tokens(place: Path) -> None:
    """The student module in one pass over prompt and answer, without a cache: tokens are its greedy choice, and so are the top 8 and the rest."""
    teacher = io.read_artifact(place / "teacher", CheckpointContract)
    assert teacher.tokenizer is not None
    student, tokenizer = load_student(place / "teacher", teacher), Tokenizer.load(place / "teacher", teacher.tokenizer)
    contract = contract_of(place / "taught")
    kept = read_shards(place / "taught", contract)
    rows = rows_of(place / "taught", contract)["train"]
    assert list(kept) == [row.id for row in rows]
    for row in rows:
        prompt, top = tokenizer.encode_prompt(str(row.prompt)), kept[row.id]
        logits = student(torch.tensor([[*prompt, *top.tokens.tolist()]])).logits[0, len(prompt) - 1 : -1]
        assert top.tokens.tolist() == logits[:, : tokenizer.vocab_size].argmax(-1).tolist()
        assert tokenizer.decode(top.tokens.tolist()) == row.response
        exact = logits[:, : tokenizer.vocab_size].double().log_softmax(-1).numpy()
        chosen = np.take_along_axis(exact, top.ids.astype(np.int64), 1)
        # fp16 keeps 11 bits; the two forward passes agree within 1e-4.
        assert np.abs(chosen - top.logprobs).max() < np.abs(chosen).max() * 2.0**-11 + 1e-4
        assert np.abs(np.log1p(-np.exp(chosen).sum(1)) - top.tail).max() < 1e-3
        assert (np.sort(exact, 1)[:, -8:] - np.sort(chosen, 1)).max() < 1e-4
        # And as a target of the loss: a student that is the teacher has nothing to learn.
        target = TopKTeacher(*(torch.from_numpy(part.copy()) for part in (top.ids, top.logprobs, top.tail)), "bucket")
        everywhere = torch.ones(len(top.tokens), dtype=torch.bool)
        loss = distillation(logits, target, everywhere, head=Head(vocabulary=tokenizer.vocab_size))
        assert loss.total.item() / len(top.tokens) < 1e-5


def test_nothing_is_asked_twice_and_the_bytes_are_the_same(place: Path, tmp_path: Path) -> None:
    """The kept answers are enough: made again, and with a row more, it runs no token of the model twice."""
    folder = Path(os.environ["INTERLOCK_HOME"]) / "teaching"
    journals = {file: file.read_bytes() for file in folder.iterdir()}
    again = taught(tmp_path / "again", place / "data", str(place / "teacher"), top_k=8, max_new_tokens=10)
    assert again.digest == contract_of(place / "taught").digest
    assert {file: file.read_bytes() for file in folder.iterdir()} == journals
    other = taught(tmp_path / "other", place / "data", str(place / "teacher"), top_k=8, max_new_tokens=9)
    assert other.digest != again.digest and len(list(folder.iterdir())) == len(journals) + 1


def test_a_run_that_was_cut_ends_with_the_bytes_of_one_that_was_not(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is in the journal, a row is answered in the company of the same rows. Lines of every second answer are torn out."""
    monkeypatch.setenv("INTERLOCK_HOME", str(tmp_path))
    options = {"top_k": 8, "max_new_tokens": 7}
    whole = taught(tmp_path / "whole", place / "data", str(place / "teacher"), **options)
    (kept,) = (tmp_path / "teaching").iterdir()
    kept.write_bytes(b"".join(kept.read_bytes().splitlines(True)[::2]))
    assert taught(tmp_path / "again", place / "data", str(place / "teacher"), **options).digest == whole.digest


def test_draws_follow_the_seed(place: Path, tmp_path: Path) -> None:
    def responses(name: str, **others: object) -> list[str | None]:
        contract = taught(tmp_path / name, place / "data", str(place / "teacher"), max_new_tokens=6, **others)
        assert contract.teaching is not None and contract.teaching.seed == others.get("seed", 0)
        return [row.response for row in rows_of(tmp_path / name, contract)["train"]]

    assert responses("a", temperature=1.0) == responses("b", temperature=1.0, seed=0) != responses("c", temperature=1.0, seed=1)


def test_a_student_with_other_ids_is_refused_with_sizes_and_digests(place: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(tokenizer_json())
    other, teacher = info_of(tokenizer_json()), io.read_artifact(place / "teacher", CheckpointContract).tokenizer
    assert teacher is not None
    with pytest.raises(ContractError) as refused:
        taught(tmp_path / "out", place / "data", str(place / "teacher"), student=tmp_path)
    told = "\n".join(refused.value.lines())
    assert all(f"{one.vocab_size} ids, sha256 {one.sha256}" in told for one in (other, teacher))
    assert not (tmp_path / "out").exists()
    # A dataset whose files have ids of their own, too.
    document = contract_of(place / "taught").model_dump(mode="json") | {"teaching": None, "tokenizer": "4" * 64}
    copy = tmp_path / "copy"
    made(copy, "permutation-automaton", **ROWS)
    document |= {name: io.read_artifact(copy, DatasetContract).model_dump(mode="json")[name] for name in ("files", "splits", "inputs")}
    (copy / "dataset_contract.json").write_bytes(io.pretty(DatasetContract.model_validate_json(json.dumps(resealed(document)))))
    with pytest.raises(ContractError, match="4444"):
        taught(tmp_path / "out", copy, str(place / "teacher"), top_k=2, max_new_tokens=1)


def test_what_makes_no_sense_is_refused_before_the_first_question(place: Path, tmp_path: Path) -> None:
    teacher = str(place / "teacher")
    with pytest.raises(UsageError, match="has the answers of teacher `random:0`"):
        taught(tmp_path / "out", place / "taught", teacher)
    with pytest.raises(UsageError, match="the teacher has 261 tokens"):
        taught(tmp_path / "out", place / "data", teacher, top_k=300)
    with pytest.raises(UsageError, match="no split `trian`"):
        taught(tmp_path / "out", place / "data", teacher, splits=("trian",))
    with pytest.raises(UsageError, match="of an endpoint"):
        taught(tmp_path / "out", place / "data", teacher, model="x")
    with pytest.raises(ContractError, match="no directory"):
        taught(tmp_path / "out", place / "data", str(tmp_path / "nobody"))


def test_tools_and_whatever_else_a_dataset_has_come_along(place: Path, tmp_path: Path) -> None:
    contract = write_dataset(tmp_path / "sums")
    document = contract.model_dump(mode="json")
    (tmp_path / "sums" / "teacher.bin").unlink()
    document |= {"teaching": None, "tokenizer": None, "files": [one for one in document["files"] if one["path"] != "teacher.bin"]}
    whole = DatasetContract.model_validate_json(json.dumps(resealed(document)))
    (tmp_path / "sums" / "dataset_contract.json").write_bytes(io.pretty(whole))
    after = taught(tmp_path / "out", tmp_path / "sums", str(place / "teacher"), max_new_tokens=2, splits=("test",))
    assert after.tools == contract.tools and after.tokenizer is None and after.teaching is not None and after.teaching.tail is None
    for name in ("tools.json", "fixtures.jsonl", "train.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "sums" / name).read_bytes()
