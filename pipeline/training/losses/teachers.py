"""What a teacher said, as log-probabilities beside those of the student: over the whole vocabulary, or over its stored top k and the rest.

Here: temperature, the rest of a distribution. Not here: divergences, where teachers come from (pipeline/training/teaching).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pipeline.training.losses.rows import LOGITS, Head

Tail = Literal["bucket", "zero", "symmetric_uniform"]


@dataclass(frozen=True)
class FullTeacher:
    """A teacher that is here. values: [N, V] logits, or [N, D] hidden states where `head` has a weight. Of as many tokens as the student's."""

    values: Tensor
    head: Head = LOGITS

    def columns(self) -> tuple[Tensor, ...]:
        """Tensors with one row per token, as `compare` takes them."""
        return (self.values.detach(),)

    def compare(self, logits: Tensor, values: Tensor, *, temperature: float) -> tuple[Tensor, Tensor]:
        """logits: fp32 [n, V] of the student → log-probabilities of student and teacher, fp32 [n, V], at the temperature.

        Raises ValueError where their widths differ.
        """
        with torch.no_grad():
            theirs = self.head.logits(values)
        if theirs.shape != logits.shape:
            raise ValueError(
                f"teacher has {theirs.shape[-1]} tokens, student has {logits.shape[-1]}: give both heads the vocabulary of their tokenizer"
            )
        return (logits / temperature).log_softmax(-1), (theirs / temperature).log_softmax(-1)


@dataclass(frozen=True)
class TopKTeacher:
    """What was stored of a teacher: k log-probabilities per token, exact, and what all the others sum to.

    ids: int32 [N, k], no id twice in a row; logprobs: fp32 or fp16 [N, k], at temperature 1; tail: fp32 [N], the log of the probability of all other
    tokens; mode says what is assumed of those others (the dataset contract's `tail`):

    - `bucket`: nothing. They are one class in teacher and student. At temperature 1 every divergence of the k + 1 classes is a lower bound of the
      one over all tokens (data-processing inequality). The temperature is applied to the k + 1 classes.
    - `symmetric_uniform`: in both they share their probability equally (DistillKit's name). At temperature 1 the same as `bucket`; at another, the
      rest is as m equal tokens: log m + log(rest / m) / T.
    - `zero`: the teacher never says them; its k are scaled to sum to 1. The student is taken over all tokens. Reverse KL is infinite.
    """

    ids: Tensor
    logprobs: Tensor
    tail: Tensor
    mode: Tail

    def columns(self) -> tuple[Tensor, ...]:
        """Tensors with one row per token, as `compare` takes them."""
        return self.ids.long(), self.logprobs.float(), self.tail.float()

    def compare(self, logits: Tensor, ids: Tensor, logprobs: Tensor, tail: Tensor, *, temperature: float) -> tuple[Tensor, Tensor]:
        """logits: fp32 [n, V] of the student → log-probabilities of student and teacher over k + 1 classes, fp32, at the temperature."""
        if self.mode == "zero":
            mine = coarse((logits / temperature).log_softmax(-1), ids)
            return mine, torch.cat([(logprobs / temperature).log_softmax(-1), torch.full_like(tail, -math.inf)[:, None]], -1)
        others = logits.shape[-1] - ids.shape[-1]
        mine, theirs = coarse(logits.log_softmax(-1), ids), torch.cat([logprobs, tail[:, None]], -1)
        if others == 0:
            mine, theirs = mine[:, :-1], theirs[:, :-1]
        elif self.mode == "symmetric_uniform":
            share = torch.zeros_like(theirs[0])
            share[-1] = math.log(others) * (temperature - 1)  # (rest + share) / T = log m + (rest - log m) / T
            mine, theirs = mine + share, theirs + share
        return (mine / temperature).log_softmax(-1), (theirs / temperature).log_softmax(-1)


def stacked(teachers: Sequence[TopKTeacher]) -> TopKTeacher:
    """What was stored of several texts, one after another. Raises ValueError where they were not captured alike."""
    modes = {one.mode for one in teachers}
    if len(modes) != 1:
        raise ValueError(f"teachers of modes {sorted(modes)}")
    ids, logprobs, tail = (torch.cat([getattr(one, name) for one in teachers]) for name in ("ids", "logprobs", "tail"))
    return TopKTeacher(ids, logprobs, tail, teachers[0].mode)


Teacher = FullTeacher | TopKTeacher


def coarse(logprobs: Tensor, ids: Tensor) -> Tensor:
    """logprobs: [n, V]; ids: int64 [n, k] → [n, k + 1]: those of the ids, then the log of what all others sum to (never 1 - Σ, which cancels)."""
    return torch.cat([logprobs.gather(-1, ids), log_rest(logprobs, ids)[:, None]], -1)


def log_rest(scores: Tensor, ids: Tensor) -> Tensor:
    """logsumexp over the columns that are not in ids. scores: [n, V]; ids: int64 [n, k] → [n], -inf where ids are all columns."""
    if ids.shape[-1] == scores.shape[-1]:
        return torch.full_like(scores[:, 0], -math.inf)  # logsumexp of nothing but -inf has NaN for a gradient
    return scores.scatter(-1, ids, -math.inf).logsumexp(-1)
