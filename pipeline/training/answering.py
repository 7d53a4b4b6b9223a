"""Greedy answers of a student in training, many rows at once, with its spans as they are or tampered with.

Here: text mode, spans of a given or self-chosen length, interventions. Not here: what is made of the answers (evaluation.py), the token loop of a
deployed student (runtime/engine).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pipeline.training.examples import Example, left_padded
from pipeline.training.latent import Feed
from pipeline.training.model import Trained
from pipeline.training.passes import Grown, run

Intervention = Literal["zero", "noise", "shuffle"]
INTERVENTIONS: tuple[Intervention, ...] = ("zero", "noise", "shuffle")

# Rows that are answered at once.
ROWS = 256


@dataclass(frozen=True)
class Answer:
    """What a row got: whether its text ends in the row's answer, the ids of that text, how many slots the span had, and at each slot the probability
    of leaving (empty without a halt head)."""

    right: bool
    said: tuple[int, ...]
    slots: int = 0
    halts: tuple[float, ...] = ()

    @property
    def tokens(self) -> int:
        """How many were generated."""
        return len(self.said)


@torch.inference_mode()
def in_text(trained: Trained, rows: Sequence[Example]) -> list[Answer]:
    """Every row answered without a span: steps in words, as many as the student says."""
    found: list[Answer] = []
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS]
        cache = Grown()
        prompt, padding = left_padded([row.prompt for row in part], trained.special.pad)
        hidden = run(trained.student, prompt, cache, padding)
        found += [Answer(right, said) for right, said in _say(trained, part, hidden[:, -1:], cache)]
    return found


@torch.inference_mode()
def in_spans(trained: Trained, rows: Sequence[Example], slots: Sequence[int], feed: Feed | None = None) -> list[Answer]:
    """Every row answered after a span of so many slots, one number for each row; `feed` tampers with what goes back in."""
    assert trained.special.bot is not None and trained.special.eot is not None
    found: dict[int, Answer] = {}
    for count in sorted(set(slots)):
        alike = [number for number, own in enumerate(slots) if own == count]
        for start in range(0, len(alike), ROWS):
            numbers = alike[start : start + ROWS]
            part = [rows[number] for number in numbers]
            cache = Grown()
            prompt, padding = left_padded([(*row.prompt, trained.special.bot) for row in part], trained.special.pad)
            hidden = run(trained.student, prompt, cache, padding)[:, -1:]
            halts = []
            for _ in range(count):
                x = hidden if trained.pause is None else trained.pause.expand_as(hidden)
                hidden = run(trained.student, x if feed is None else feed(x), cache)
                if trained.halts:
                    halts.append(trained.student.halt(hidden[:, 0]).float().softmax(-1)[:, 1])
            leave = torch.full((len(part), 1), trained.special.eot)
            said = _say(trained, part, run(trained.student, leave, cache), cache)
            asked = torch.stack(halts, 1).tolist() if halts else [[] for _ in part]
            for number, (right, text), probabilities in zip(numbers, said, asked, strict=True):
                found[number] = Answer(right, text, count, tuple(probabilities))
    return [found[number] for number in range(len(rows))]


def tampering(kind: Intervention, seed: int) -> Feed:
    """What an intervention makes of hidden states [B, 1, d]: nothing, noise of the same mean and deviation, those of another row."""
    chance = torch.Generator().manual_seed(seed)
    if kind == "zero":
        return torch.zeros_like
    if kind == "noise":
        return lambda x: torch.randn(x.shape, generator=chance) * x.std() + x.mean()
    return lambda x: x[torch.randperm(len(x), generator=chance)]


def _say(trained: Trained, rows: Sequence[Example], hidden: Tensor, cache: Grown) -> list[tuple[bool, tuple[int, ...]]]:
    """Greedy text after `hidden` [B, 1, d], until each row has ended or is longer than it could be: does it end in the answer, and its ids."""
    ends = torch.tensor([row.answer[-1] for row in rows])
    limit = max(len(row.tail(0)) for row in rows) + 4
    open_ = torch.ones(len(rows), dtype=torch.bool)
    said: list[Tensor] = []
    for _ in range(limit):
        token = trained.student.logits(hidden[:, -1]).argmax(-1)
        said.append(torch.where(open_, token, -1))
        open_ &= token != ends
        if not open_.any():
            break
        hidden = run(trained.student, token[:, None], cache)
    texts = [tuple(token for token in row if token >= 0) for row in torch.stack(said, 1).tolist()]
    return [(text[-len(row.answer) :] == row.answer, text) for row, text in zip(rows, texts, strict=True)]
