"""What a teacher is asked for, and what is kept of an answer.

Here: the records, and their form in a journal. Not here: teachers, files of a dataset (shards.py).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from interlock.canonical import canonical_json
from interlock.errors import StageFailed
from pipeline.datasets.rows import Row

Tail = Literal["bucket", "zero", "symmetric_uniform"]


@dataclass(frozen=True)
class Capture:
    """What answers depend on beside teacher and prompt. top_k: log-probabilities kept per token, 0 for text alone; they are of temperature 1,
    whatever tokens were drawn at. seed: what was sent, None where it has no effect."""

    temperature: float
    seed: int | None
    max_new_tokens: int
    top_k: int


@dataclass(frozen=True)
class Top:
    """Of each token of an answer, its end included where the teacher said it: tokens: int32 [n]; ids: int32 [n, k], no id twice in a row; logprobs:
    fp16 [n, k]; tail: fp32 [n], the log of the probability of all other ids."""

    tokens: NDArray[np.int32]
    ids: NDArray[np.int32]
    logprobs: NDArray[np.float16]
    tail: NDArray[np.float32]


FORMS = {"tokens": np.int32, "ids": np.int32, "logprobs": np.float16, "tail": np.float32}


@dataclass(frozen=True)
class Answer:
    """text: without control tokens; tokens: prompt and answer, what a budget counts; top: None where only text was asked for; fingerprint: an
    endpoint's own name of the state it answered in."""

    text: str
    tokens: int
    top: Top | None
    fingerprint: str | None


@dataclass(frozen=True)
class Teacher:
    """Somebody who answers. digest: of its checkpoint contract, None for an endpoint; tokenizer: sha256 of its `tokenizer.json`, None where nobody
    knows it; settings: what else its answers depend on; batch: how many rows `ask` takes; at_once: how many calls of it may run at a time.

    `ask` raises StageFailed where it fails, with what was found.
    """

    name: str
    digest: str | None
    tokenizer: str | None
    vocab_size: int | None
    settings: dict[str, Any]
    ask: Callable[[Sequence[Row]], list[Answer]]
    batch: int = 1
    at_once: int = 1

    def journal_name(self, capture: Capture) -> str:
        """Another one for whatever may give another answer."""
        identity = {"name": self.name, "digest": self.digest, "tokenizer": self.tokenizer, "settings": self.settings, "capture": vars(capture)}
        return hashlib.sha256(canonical_json(identity)).hexdigest()[:32] + ".jsonl"


def key_of(row: Row) -> str:
    """Rows that a teacher sees alike have one key."""
    return hashlib.sha256(canonical_json({"prompt": row.prompt, "messages": row.given if row.messages else None})).hexdigest()


def to_record(answer: Answer) -> dict[str, Any]:
    """An answer as JSON: arrays as base64 of their little-endian bytes, 520 bytes a token at k = 64."""
    arrays = {name: base64.b64encode(getattr(answer.top, name).astype(FORMS[name]).tobytes()).decode() for name in FORMS} if answer.top else None
    return {"text": answer.text, "tokens": answer.tokens, "top": arrays, "fingerprint": answer.fingerprint}


def from_record(record: dict[str, Any]) -> Answer:
    """The answer of `to_record`."""
    top = None
    if record["top"] is not None:
        arrays = {name: np.frombuffer(base64.b64decode(record["top"][name]), form) for name, form in FORMS.items()}
        shape = len(arrays["tokens"]), -1 if len(arrays["tokens"]) else 0
        top = Top(arrays["tokens"], arrays["ids"].reshape(shape), arrays["logprobs"].reshape(shape), arrays["tail"])
    return Answer(record["text"], record["tokens"], top, record["fingerprint"])


def failed(teacher: str, expected: str, found: object) -> StageFailed:
    """A teacher that did not do what was expected of it."""
    remedy = "see to the teacher, then run the same command again: answers that came are kept, and it goes on from there"
    return StageFailed(f"teacher `{teacher}`: expected {expected}, found {found}", remedy=remedy)
