"""Pairs of a preferred and a rejected answer: code instead of calls, at the place where the two part.

Here: whose pairs count, which of their tokens are asked, the loss of a batch, and the share of pairs that a student decides rightly. Not here: the
loss of a token (losses/preference.py), where pairs come from (pipeline/datasets/rows.py).
Tokens before the fork are the same in both and say nothing about a preference. After it the preferred answer is made likelier and the rejected one
less likely, without the token that ends it: that an answer ends is nothing against it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pipeline.datasets.code_mode import eligible
from pipeline.datasets.rows import Row
from pipeline.training.examples import Example, Special, left_padded, right_padded
from pipeline.training.losses.preference import preference_loss
from pipeline.training.losses.rows import Head
from pipeline.training.losses.sums import TokenSum
from pipeline.training.passes import Grown, run
from pipeline.training.settings import CodeMode
from runtime.student.model import Student

# The name of the loss, and of the share of pairs that are decided rightly among the ways of answering.
LOSS, WAY = "code_mode", "preferred"


def counted(settings: CodeMode | None) -> Callable[[Row], bool]:
    """Which rows' pairs a training takes."""
    if settings is None:
        return lambda row: False
    return eligible if settings.pairs == "eligible" else lambda row: True


def fork(row: Example) -> int:
    """How many tokens what a row says and what it rejects begin with alike."""
    pairs = zip(row.tail(0), row.rejected, strict=False)
    return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))


def asked_of(row: Example) -> tuple[slice, slice]:
    """Which tokens of what a row says are to become likelier, and which of what it rejects less likely; at least one of each."""
    start = fork(row)
    return slice(start, len(row.tail(0))), slice(start, max(start + 1, len(row.rejected) - 1))


def count(row: Example) -> int:
    """How many tokens a row's pair supervises."""
    if not row.rejected:
        return 0
    preferred, avoided = asked_of(row)
    return len(row.tail(0)[preferred]) + len(row.rejected[avoided])


def loss(student: Student, rows: Sequence[Example], hidden: Tensor, head: Head, special: Special, *, recompute: bool) -> TokenSum:
    """Of the rows that reject something, at least one. hidden: [B, T, d] after the final norm over prompt and what is said, column t says t + 1."""
    pairs = [(number, row) for number, row in enumerate(rows) if row.rejected]
    other = run(student, right_padded([(*row.prompt, *row.rejected) for _, row in pairs], special.pad)[:, :-1], Grown(recompute=recompute))
    states: list[Tensor] = []
    tokens: list[int] = []
    marks: list[int] = []
    for place, (number, row) in enumerate(pairs):
        before = len(row.prompt) - 1
        for part, (text, of), mark in zip(asked_of(row), ((row.tail(0), hidden[number]), (row.rejected, other[place])), (1, -1), strict=True):
            states.append(of[before + part.start : before + part.stop])
            tokens += text[part]
            marks += [mark] * len(text[part])
    return preference_loss(torch.cat(states), torch.tensor(tokens), torch.tensor(marks, dtype=torch.int8), head)


@torch.inference_mode()
def preferred(student: Student, rows: Sequence[Example], special: Special, size: int = 64) -> list[bool]:
    """Of each row, which all reject something: whether the student, where the two part, finds the token of the preferred one likelier."""
    found: list[bool] = []
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        ids, padding = left_padded([(*row.prompt, *row.rejected[: fork(row)]) for row in part], special.pad)
        logits = student.logits(run(student, ids, Grown(), padding)[:, -1])
        tokens = torch.tensor([[row.tail(0)[fork(row)], row.rejected[fork(row)]] for row in part])
        found += (logits.gather(-1, tokens).diff(dim=-1)[:, 0] < 0).tolist()
    return found
