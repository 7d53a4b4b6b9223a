"""Stage `teach`: a dataset and a teacher in, the dataset with the teacher's answers out.

Here: what is checked before the first question, and what is written after the last answer. Not here: teachers (pipeline/training/teaching).
Answers are kept in `.interlock/teaching` as they come, under the digest of everything that they depend on: a run that was killed, failed or came to
the end of its budget goes on from there, and so does one with more rows. A step of a build keeps them under its key instead, until it is done.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from interlock import journal
from interlock.calls import remove_tree
from interlock.contracts import dataset
from interlock.contracts.base import InputRef
from interlock.errors import UsageError
from interlock.fs import Workspace
from interlock.posting import Patience
from interlock.voice import Task, Voice
from pipeline.datasets.reading import read_split
from pipeline.datasets.rows import Row
from pipeline.datasets.tools import Registry, offered
from pipeline.driver import stage
from pipeline.driver.store import project_folder
from pipeline.training.teaching.answers import Answer, Capture, Tail, Teacher, Top, from_record, key_of
from pipeline.training.teaching.asking import Budget, ask_all
from pipeline.training.teaching.endpoint import endpoint
from pipeline.training.teaching.shards import packed
from pipeline.training.teaching.vocabulary import read_vocabulary, require_same

Positive = Annotated[int, Field(ge=1)]


class Params(stage.Params):
    """`teacher` is a checkpoint directory or the address of an endpoint, which needs `model`; `tokenizer` is an endpoint's, for
    log-probabilities; `student` a directory or file whose tokenizer must be the teacher's. `key_variable` names the environment variable with an
    endpoint's key: the key itself is no parameter. `state` is the folder where a step of a build keeps answers."""

    dataset: Path
    teacher: str
    splits: Annotated[tuple[str, ...], Field(min_length=1)] = ("train",)
    temperature: Annotated[float, Field(ge=0, le=100)] = 0.0
    seed: Annotated[int, Field(ge=0, lt=1 << 53)] | None = None
    max_new_tokens: Positive = 256
    top_k: Annotated[int, Field(ge=0)] = 0
    tail: Tail = "bucket"
    student: Path | None = None
    model: str | None = None
    tokenizer: Path | None = None
    key_variable: str = "OPENAI_API_KEY"
    timeout_s: Annotated[float, Field(gt=0)] = 120.0
    retries: Annotated[int, Field(ge=0)] = 5
    at_once: Annotated[int, Field(ge=1, le=256)] = 4
    max_requests: Positive | None = None
    max_tokens: Positive | None = None
    state: Path | None = None

    @property
    def is_endpoint(self) -> bool:
        return "://" in self.teacher


def work(params: Params, work: Workspace, voice: Voice) -> stage.Outcome:
    contract = stage.read_input(params.dataset, dataset.DatasetContract, voice, toy=params.toy)
    if contract.teaching is not None:
        raise UsageError(f"`{params.dataset}` has the answers of teacher `{contract.teaching.name}`", remedy="teach the dataset it was made from")
    rows = {name: read_split(params.dataset, contract, name, voice) for name in params.splits}
    capture = _capture(params)
    tools = offered(params.dataset, contract.tools, (row for split in rows.values() for row in split))
    teacher = _teacher(params, tools, capture, voice)
    _check_tokenizers(params, contract, teacher)
    with journal.opened((params.state or project_folder() / "teaching") / teacher.journal_name(capture)) as kept:
        ask_all((row for split in rows.values() for row in split), teacher, kept, Budget(params.max_requests, params.max_tokens), voice)
        written = _write(params, contract, rows, kept, work, voice)
    if params.state is not None:
        remove_tree(work.fs, params.state)
    teaching = dataset.Teaching(
        teacher=teacher.digest,
        name=teacher.name,
        temperature=capture.temperature,
        seed=capture.seed,
        max_new_tokens=capture.max_new_tokens,
        top_k=capture.top_k,
        tail=params.tail if capture.top_k else None,
        files=written.files,
        vocab_size=teacher.vocab_size if capture.top_k else None,
        system_fingerprints=written.fingerprints,
    )
    own = {name: getattr(contract, name) for name in ("task", "generator", "origin", "tools", "licence")}
    splits = {name: dataset.Split(files=(_rows_of(name),), rows=split.rows) if name in rows else split for name, split in contract.splits.items()}
    inputs = [InputRef(kind="dataset", digest=contract.digest)]
    if teacher.digest is not None:
        inputs.append(InputRef(kind="checkpoint", digest=teacher.digest))
    return stage.Outcome(
        body={**own, "splits": splits, "tokenizer": teacher.tokenizer if capture.top_k else contract.tokenizer, "teaching": teaching},
        inputs=tuple(inputs),
        toy=contract.toy,
    )


STAGE = stage.Stage("teach", "train", "dataset", Params, work, __name__)


def _capture(params: Params) -> Capture:
    """What is asked for. A seed is named where it has an effect: an endpoint may take none and is sent none unasked."""
    seed = params.seed if params.is_endpoint else (params.seed or 0) if params.temperature else None
    return Capture(params.temperature, seed, params.max_new_tokens, params.top_k)


def _teacher(params: Params, tools: Registry, capture: Capture, voice: Voice) -> Teacher:
    if params.is_endpoint:
        if params.model is None:
            raise UsageError("an endpoint has many models", remedy="give --model NAME")
        vocabulary = read_vocabulary(params.tokenizer) if params.tokenizer else None
        patience = Patience(params.timeout_s, params.retries)
        return endpoint(params.teacher, params.model, params.key_variable, capture, patience, params.at_once, vocabulary)
    if params.model is not None or params.tokenizer is not None:
        raise UsageError("--model and --tokenizer are of an endpoint", remedy="leave them out: a directory has its own")
    from pipeline.training.teaching.local import local

    return local(Path(params.teacher), capture, voice, tools, toy=params.toy)


def _check_tokenizers(params: Params, contract: dataset.DatasetContract, teacher: Teacher) -> None:
    """Ids of the teacher mean nothing to a student with other ones. Raises ContractError with digests and sizes, as far as each is known."""
    if params.student is not None:
        theirs = read_vocabulary(params.student)
        require_same(str(params.student), theirs.sha256, theirs.size, teacher.name, teacher.tokenizer, teacher.vocab_size)
    if contract.tokenizer is not None and params.top_k:
        require_same(str(params.dataset), contract.tokenizer, None, teacher.name, teacher.tokenizer, teacher.vocab_size)


@dataclass(frozen=True)
class _Written:
    files: tuple[str, ...]
    fingerprints: tuple[str, ...]


def _write(
    params: Params, contract: dataset.DatasetContract, rows: dict[str, tuple[Row, ...]], kept: journal.Journal, work: Workspace, voice: Voice
) -> _Written:
    """The rows with their answers, shards of log-probabilities, and whatever else the dataset has, as it was."""
    files: list[str] = []
    fingerprints: set[str] = set()
    taught = {file for name in rows for file in contract.splits[name].files}
    for file in sorted({entry.path for entry in contract.files} - taught):
        work.copy(params.dataset / file, file)
    for name, split in rows.items():
        with voice.task(f"write {name}", len(split), "rows") as progress:
            work.stream(_rows_of(name), _lines(split, kept, fingerprints, progress))
        if params.top_k:
            for number, data in enumerate(packed((row.id, _top(_answer(kept, row))) for row in split)):
                files.append(f"{name}.teaching-{number:05d}.safetensors")
                work.write(files[-1], data)
    return _Written(tuple(files), tuple(sorted(fingerprints)))


def _lines(rows: tuple[Row, ...], kept: journal.Journal, fingerprints: set[str], progress: Task) -> Iterator[bytes]:
    for row in rows:
        answer = _answer(kept, row)
        if answer.fingerprint is not None:
            fingerprints.add(answer.fingerprint)
        progress.advance()
        yield row.model_copy(update={"response": answer.text}).line()


def _answer(kept: journal.Journal, row: Row) -> Answer:
    return from_record(kept.get(key_of(row)))


def _rows_of(split: str) -> str:
    return f"{split}.jsonl"


def _top(answer: Answer) -> Top:
    assert answer.top is not None
    return answer.top
