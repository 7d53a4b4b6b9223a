"""A teacher that is here: a checkpoint, asked about many rows at a time by the student module.

Here: prompts as ids, answers token by token, what the model thought before each. Not here: one conversation at a time (runtime/engine), the pass
over a batch (pipeline/training/passes.py).
A batch of 64 short prompts costs about as much as three alone (a decode step reads all weights once), and what a teacher is for is thousands of rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from interlock.contracts.checkpoint import CheckpointContract
from interlock.errors import UsageError, refuse
from interlock.voice import Voice
from pipeline.datasets.rows import Row
from pipeline.datasets.tools import Registry, pretty
from pipeline.driver.stage import read_input
from pipeline.training.dialogues import prompts
from pipeline.training.examples import left_padded
from pipeline.training.losses.teachers import log_rest
from pipeline.training.passes import Grown, run
from pipeline.training.teaching.answers import Answer, Capture, Teacher, Top
from runtime.engine.sampling import Sampler, SamplingParams
from runtime.engine.tokenizer import Tokenizer
from runtime.student.checkpoint import load_student
from runtime.student.model import Student

# Keys and values of one batch, in bytes: 256 rows of a small student, 16 of one with 135 M parameters.
CACHE_BYTES = 1 << 28
MOST_ROWS = 256


def local(directory: Path, capture: Capture, voice: Voice, tools: Registry, *, toy: bool) -> Teacher:
    """Opens a checkpoint, its files proven. tools: those that dialogues offer. Raises ContractError, and UsageError for a top k that its tokenizer
    has not got."""
    contract = read_input(directory, CheckpointContract, voice, toy=toy)
    info = contract.tokenizer
    if info is None:
        raise refuse(directory, "/tokenizer", expected="a tokenizer", found="none", remedy="import the checkpoint with `--tokenizer DIR`")
    if capture.top_k > info.vocab_size:
        raise UsageError(f"--top-k is {capture.top_k}, the teacher has {info.vocab_size} tokens", remedy="ask for fewer")
    arch = contract.arch
    row_bytes = 4 * 2 * arch.n_layers * arch.n_kv_heads * arch.d_head * min(arch.max_position, 2 * capture.max_new_tokens)
    model = _Model(load_student(directory, contract), Tokenizer.load(directory, info), capture, tools)
    return Teacher(
        name=contract.source.name,
        digest=contract.digest,
        tokenizer=info.sha256,
        vocab_size=info.vocab_size,
        settings={"tools": hashlib.sha256(pretty(tools)).hexdigest()} if tools else {},
        ask=model.answers,
        batch=max(1, min(MOST_ROWS, CACHE_BYTES // row_bytes)),
    )


@dataclass(frozen=True)
class _Model:
    student: Student
    tokenizer: Tokenizer
    capture: Capture
    tools: Registry

    @torch.inference_mode()
    def answers(self, rows: Sequence[Row]) -> list[Answer]:
        """One answer for each row. Raises UsageError for a prompt that is longer than the model's positions, or that its template does not write."""
        given = self._prompts(rows)
        tokens, tops = self._say(given)
        made = []
        for number, (prompt, said) in enumerate(zip(given, tokens, strict=True)):
            top = _joined(said, [step[number] for step in tops[: len(said)]]) if self.capture.top_k else None
            made.append(Answer(self.tokenizer.decode(said), len(prompt) + len(said), top, None))
        return made

    def _prompts(self, rows: Sequence[Row]) -> list[list[int]]:
        chats = iter(prompts([row for row in rows if row.messages], self.tokenizer, self.tools))
        found = [next(chats) if row.messages else self.tokenizer.encode_prompt(row.prompt or "") for row in rows]
        for row, ids in zip(rows, found, strict=True):
            if not 0 < len(ids) < self.student.arch.max_position:
                problem = f"row `{row.id}` has {len(ids)} tokens, the teacher has {self.student.arch.max_position} positions"
                raise UsageError(problem, remedy="take the row out, or ask a teacher with more positions")
        return found

    def _say(self, prompts: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[list[tuple[Tensor, Tensor, Tensor]]]]:
        """The tokens of each row, a token that ends it included, and at each step what every row's top was (of rows that have ended, anything)."""
        capture, info, student = self.capture, self.tokenizer.info, self.student
        samplers = [Sampler(SamplingParams(temperature=capture.temperature, seed=capture.seed or 0)) for _ in prompts]
        said: list[list[int]] = [[] for _ in prompts]
        tops = []
        ids, padding = left_padded(prompts, 0)
        cache = Grown()
        hidden = run(student, ids, cache, padding)
        open_rows = set(range(len(prompts)))
        for _ in range(min(capture.max_new_tokens, student.arch.max_position - ids.shape[1])):
            logits = student.logits(hidden[:, -1])[:, : info.vocab_size]  # beyond are columns of padding, which are no tokens
            if capture.top_k:
                tops.append(_likeliest(logits, capture.top_k))
            chosen = self._chosen(logits, samplers, said, open_rows)
            for row in sorted(open_rows):
                said[row].append(chosen[row])
            open_rows = {row for row in open_rows if chosen[row] not in info.eos_ids}
            if not open_rows:
                break
            hidden = run(student, torch.tensor(chosen)[:, None], cache)
        return said, tops

    def _chosen(self, logits: Tensor, samplers: Sequence[Sampler], said: Sequence[Sequence[int]], open_rows: set[int]) -> list[int]:
        if self.capture.temperature == 0:
            return [int(token) for token in logits.argmax(-1)]
        rows = logits.numpy()
        return [sampler.next(rows[number], said[number]) if number in open_rows else 0 for number, sampler in enumerate(samplers)]


def _likeliest(logits: Tensor, k: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """logits: fp32 [B, V] → for each row ids [k] by falling probability, their log-probabilities, and the log of what all others sum to []."""
    everything = logits.double().log_softmax(-1)
    best = everything.topk(k, -1)
    return list(zip(best.indices, best.values, log_rest(everything, best.indices), strict=True))


def _joined(tokens: Sequence[int], steps: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Top:
    ids, logprobs, tail = (torch.stack(part).numpy() for part in zip(*steps, strict=True))
    return Top(np.array(tokens, np.int32), ids.astype(np.int32), logprobs.astype(np.float16), tail.astype(np.float32))
