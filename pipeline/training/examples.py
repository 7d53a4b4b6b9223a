"""Rows of a dataset as ids: made per part, so that a border between parts is a border between tokens.

Here: one row encoded, and rows padded to one width. Not here: reading rows (pipeline/datasets), the order of batches (batches.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pipeline.training.losses.teachers import TopKTeacher


@dataclass(frozen=True)
class Example:
    """One row: ids of the prompt, of each reasoning step, and of the answer with the token that ends it. teacher: what a teacher thought at each
    token of the answer. own: whether the student said the answer itself, so that there is nothing to imitate. rejected: what could be said instead
    of steps and answer, and should not be, with the token that ends it; empty where there is nothing."""

    id: str
    prompt: tuple[int, ...]
    steps: tuple[tuple[int, ...], ...]
    answer: tuple[int, ...]
    teacher: TopKTeacher | None = field(default=None, compare=False)
    own: bool = False
    rejected: tuple[int, ...] = ()

    def tail(self, replaced: int) -> tuple[int, ...]:
        """What is still said in text once the first `replaced` steps are not."""
        return (*(token for step in self.steps[replaced:] for token in step), *self.answer)


@dataclass(frozen=True)
class Special:
    """Ids that are no text: the borders of a latent span (None where the tokenizer has none), and what fills a row up. vocabulary: how many ids there
    are, None where every row of the embedding is one."""

    pad: int
    bot: int | None = None
    eot: int | None = None
    vocabulary: int | None = None


def left_padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor | None]:
    """ids int64 [B, T] that end in one column, and the padding before them, bool [B, T], None where there is none."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows])
    if all(len(row) == width for row in rows):
        return ids, None
    lengths = torch.tensor([len(row) for row in rows])
    return ids, torch.arange(width)[None, :] < (width - lengths)[:, None]


def right_padded(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    """int64 [B, T]: rows that begin in one column. What fills a row up is seen by nothing of it: attention is causal."""
    width = max(len(row) for row in rows)
    return torch.tensor([list(row) + [fill] * (width - len(row)) for row in rows])
