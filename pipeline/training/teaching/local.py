"""A teacher that is here: a checkpoint or a deployed directory, run by backend `eager`.

Here: asking it, and looking over the shoulder of the token loop. Not here: the loop (runtime/engine/generate.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from interlock.contracts import checkpoint, io
from interlock.errors import UsageError
from pipeline.datasets.rows import Row
from pipeline.training.teaching.answers import Answer, Capture, Teacher, Top
from runtime.backends.protocol import Backend, CacheT, Step, Vector
from runtime.engine.chat import encode_chat
from runtime.engine.generate import GenerationParams, generate
from runtime.engine.sampling import SamplingParams
from runtime.load import Loaded, load


def local(directory: Path, capture: Capture) -> Teacher:
    """Opens the model, its files proven. Raises ContractError, and UsageError for a top k that its tokenizer has not got."""
    model = load(directory)
    if capture.top_k > model.info.vocab_size:
        raise UsageError(f"--top-k is {capture.top_k}, the teacher has {model.info.vocab_size} tokens", remedy="ask for fewer")
    is_checkpoint = io.kind_of(directory) == "checkpoint"
    name = io.read_contract(directory / checkpoint.FILE, checkpoint.CheckpointContract).source.name if is_checkpoint else "deployment"
    return Teacher(
        name=name,
        kind="checkpoint" if is_checkpoint else "deployment",
        digest=model.digest,
        tokenizer=model.info.sha256,
        vocab_size=model.info.vocab_size,
        settings={"backend": model.backend_name},
        at_once=1,
        ask=lambda row: _ask(model, row, capture),
    )


def _ask(model: Loaded, row: Row, capture: Capture) -> Answer:
    params = GenerationParams(
        sampling=SamplingParams(temperature=capture.temperature, seed=capture.seed or 0),
        max_new_tokens=capture.max_new_tokens,
        eos_ids=model.info.eos_ids,
    )
    if row.messages is not None:
        ids = encode_chat(model.tokenizer, [message.model_dump(exclude_none=True) for message in row.messages])
    else:
        ids = model.tokenizer.encode_prompt(row.prompt or "")
    watched = Watched(model.backend, model.info.vocab_size, capture.top_k)
    made = generate(watched, model.tokenizer, ids, params)
    if made.reason == "interrupted":
        raise KeyboardInterrupt
    return Answer(made.text, len(ids) + len(made.tokens), watched.top(made.tokens) if capture.top_k else None, None)


class Watched(Generic[CacheT]):
    """A backend that remembers what the model thought before each token: the k likeliest of the first `vocabulary` ids, and the rest.

    Ids beyond are padding of the embedding: they are no tokens, and a teacher does not say them.
    """

    def __init__(self, inner: Backend[CacheT], vocabulary: int, k: int) -> None:
        self._inner, self._vocabulary, self._k = inner, vocabulary, k
        self._seen: list[tuple[NDArray[np.int32], NDArray[np.float64], float]] = []

    @property
    def capacity(self) -> int:
        return self._inner.capacity

    def new_cache(self) -> CacheT:
        return self._inner.new_cache()

    def prefill(self, ids: Sequence[int], cache: CacheT) -> Step:
        return self._watch(self._inner.prefill(ids, cache))

    def decode(self, inp: int | Vector, cache: CacheT) -> Step:
        return self._watch(self._inner.decode(inp, cache))

    def top(self, tokens: Sequence[int]) -> Top:
        """Of the tokens that were chosen, one for each step so far."""
        ids, logprobs, tails = zip(*self._seen[: len(tokens)], strict=True)
        return Top(np.array(tokens, np.int32), np.array(ids), np.array(logprobs, np.float16), np.array(tails, np.float32))

    def _watch(self, step: Step) -> Step:
        step.logits[self._vocabulary :] = -np.inf  # the arrays are fresh (runtime/backends/protocol.py)
        if self._k:
            self._seen.append(likeliest(step.logits[: self._vocabulary], self._k))
        return step


def likeliest(logits: NDArray[np.float32], k: int) -> tuple[NDArray[np.int32], NDArray[np.float64], float]:
    """ids int32 [k] by falling probability (the lower id first of equals), their log-probabilities [k], and the log of what the others sum to."""
    wide: NDArray[np.float64] = logits.astype(np.float64)
    total = _logsumexp(wide)
    ids = _partly_sorted(wide, k)
    rest = np.delete(wide, ids)
    tail = _logsumexp(rest) - total
    return ids.astype(np.int32), wide[ids] - total, tail


def _logsumexp(values: NDArray[np.float64]) -> float:
    if not len(values):
        return -np.inf
    best = np.max(values)
    return float(best + np.log(np.sum(np.exp(values - best))))


def _partly_sorted(values: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """The places of the k greatest values, in order: of a vocabulary only those that may be among them are sorted."""
    least = np.partition(values, -k)[-k]
    places = np.flatnonzero(values >= least)
    return places[np.lexsort((places, -values[places]))][:k]
