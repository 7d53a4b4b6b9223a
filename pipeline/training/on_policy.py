"""A teacher that is there while its student trains: what it thinks of each text, and of texts that the student itself says.

Here: answers of the student, the teacher's view of them. Not here: the loss (objective.py), answers that a teacher gave before (teaching/).
A student that learns from others' texts alone is never shown how to go on after a mistake of its own: so a share of the batches are its own answers
(generalised knowledge distillation, Agarwal et al. 2023, arXiv:2306.13649; `lmbda` in TRL's GKDTrainer).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import torch

from pipeline.training.examples import Example, Special, left_padded, right_padded
from pipeline.training.losses.teachers import TopKTeacher, log_rest
from pipeline.training.passes import Grown, run
from pipeline.training.settings import Settings
from runtime.student.model import Student

# Log-probabilities of each token that are compared one by one; the rest is one class. A vocabulary of so many tokens is compared whole.
TOP = 512


def is_own(settings: Settings, step: int) -> bool:
    """Whether the batch of an optimizer step has the student's own answers: by seed and step alone, so that a resumed run draws the same."""
    draw = random.Random(f"{settings.seed}:on-policy:{step}")  # noqa: S311 - seeded on purpose
    return draw.random() < settings.distillation.on_policy


@torch.no_grad()
def own_answers(student: Student, rows: Sequence[Example], special: Special, seed: int) -> list[Example]:
    """The rows with answers drawn from the student at temperature 1, at most as long as the longest of theirs, each up to the token that ends it.

    Gradients do not flow through the draws, as in GKD. The same rows, weights and seed give the same answers.
    """
    chance = torch.Generator().manual_seed(seed)
    ends = torch.tensor([row.answer[-1] for row in rows])
    limit = max(len(row.tail(0)) for row in rows)
    prompt, padding = left_padded([row.prompt for row in rows], special.pad)
    cache = Grown()
    hidden = run(student, prompt, cache, padding)
    said: list[torch.Tensor] = []
    open_ = torch.ones(len(rows), dtype=torch.bool)
    while len(said) < limit and open_.any():
        if said:
            hidden = run(student, said[-1].clamp(min=0)[:, None], cache)
        likely = student.logits(hidden[:, -1])[:, : special.vocabulary].float().softmax(-1)
        token = torch.multinomial(likely, 1, generator=chance)[:, 0]
        said.append(torch.where(open_, token, -1))
        open_ &= token != ends
    answers = [tuple(token for token in row if token >= 0) for row in torch.stack(said, 1).tolist()]
    return [Example(row.id, row.prompt, (), answer, own=True) for row, answer in zip(rows, answers, strict=True)]


@torch.no_grad()
def scored(teacher: Student, rows: Sequence[Example], special: Special, size: int) -> list[Example]:
    """The rows in words, with what the teacher thinks at each of their tokens; `size` rows at a time. Rows that have a teacher keep it."""
    found: list[Example] = []
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        hidden = run(teacher, right_padded([(*row.prompt, *row.tail(0)) for row in part], special.pad)[:, :-1], Grown())
        for row, states in zip(part, hidden, strict=True):
            text = row.tail(0)
            logits = teacher.logits(states[len(row.prompt) - 1 :][: len(text)])[:, : special.vocabulary]
            target = row.teacher or _top(logits.float().log_softmax(-1))
            found.append(replace(row, steps=(), answer=text, teacher=target))
    return found


def _top(logprobs: torch.Tensor) -> TopKTeacher:
    """logprobs: fp32 [n, V] → the likeliest TOP and the rest."""
    best = logprobs.topk(min(TOP, logprobs.shape[-1]), -1)
    return TopKTeacher(best.indices.int(), best.values, log_rest(logprobs, best.indices), "bucket")
