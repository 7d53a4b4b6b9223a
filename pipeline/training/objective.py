"""What one batch costs: text, the steps that slots stand for, the decision to stop; as sums over what is supervised, with the counts.

Here: which hidden state is asked what. Not here: the losses themselves (losses/), the counts of a whole step (step.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.training import code_mode
from pipeline.training.examples import Example, Special, right_padded
from pipeline.training.latent import StepDecoder, run_span
from pipeline.training.losses.distillation import distillation
from pipeline.training.losses.divergences import divergence
from pipeline.training.losses.rows import Head
from pipeline.training.losses.sums import IGNORED, TokenSum
from pipeline.training.losses.teachers import stacked
from pipeline.training.losses.tokens import cross_entropy, halt_loss, step_loss
from pipeline.training.passes import Grown, run
from pipeline.training.settings import Distillation
from runtime.student.model import Student


@dataclass(frozen=True)
class LatentOptions:
    """Slots for each replaced step; whether each is asked if it is the last; what tells the tokens of a step off its last slot; the constant that
    takes the place of hidden states, for a control; whether backward computes layers again."""

    slots_per_step: int
    halts: bool
    decoder: StepDecoder | None
    pause: Tensor | None = None
    recompute: bool = False


def text_loss(
    student: Student, rows: Sequence[Example], special: Special, distilled: Distillation | None = None, *, recompute: bool = False
) -> dict[str, TokenSum]:
    """`ce`: cross-entropy of steps and answer after the prompt, all said in text, unless by the student itself. `kl`, if it is asked for and a row
    has a teacher: the divergence from what that one thought at each token of its answer. `code_mode`, if a row rejects an answer: the preference of
    what it says.
    """
    ids = right_padded([(*row.prompt, *row.tail(0)) for row in rows], special.pad)
    labels = right_padded([(*[IGNORED] * len(row.prompt), *(() if row.own else row.tail(0))) for row in rows], IGNORED)
    labels = F.pad(labels, (0, ids.shape[1] - labels.shape[1]), value=IGNORED)
    hidden = run(student, ids[:, :-1], Grown(recompute=recompute))
    sums = {"ce": _said(student, hidden, labels[:, 1:])}
    if distilled is not None and (taught := [number for number, row in enumerate(rows) if row.teacher is not None]):
        asked = torch.cat([hidden[number, (start := len(rows[number].prompt) - 1) : start + len(rows[number].answer)] for number in taught])
        teacher = stacked([one for number in taught if (one := rows[number].teacher) is not None])
        everywhere = torch.ones(len(asked), dtype=torch.bool, device=asked.device)
        how, head = divergence(distilled.beta), Head(_head(student), vocabulary=special.vocabulary)
        sums["kl"] = distillation(asked, teacher, everywhere, divergence=how, temperature=distilled.temperature, head=head)
    if any(row.rejected for row in rows):
        head = Head(_head(student), vocabulary=special.vocabulary)
        sums[code_mode.LOSS] = code_mode.loss(student, rows, hidden, head, special, recompute=recompute)
    return sums


def latent_loss(student: Student, rows: Sequence[Example], special: Special, *, replaced: int, options: LatentOptions) -> dict[str, TokenSum]:
    """The same with the first `replaced` ≥ 1 steps in slots: `ce` over the text after the span, `step` and `halt` over its steps.

    `halt` is asked at the last slot of each step, as it will be when the model is run (runtime/engine/latent.py): half a step is no span that was
    trained. It is yes at the last slot if no step is left, and no at those before.
    """
    span = run_span(
        student, rows, special, replaced=replaced, slots_per_step=options.slots_per_step, pause=options.pause, recompute=options.recompute
    )
    sums = {"ce": _said(student, span.after[:, :-1], right_padded([row.tail(replaced) for row in rows], IGNORED))}
    if options.decoder is not None:
        became = span.fed[:, options.slots_per_step - 1 :: options.slots_per_step]
        told = options.decoder(became).flatten(0, -2)
        sums["step"] = step_loss(told, step_labels(rows, replaced, options.decoder.tokens).flatten(), Head(_head(student)))
    if options.halts:
        ends = span.at[:, options.slots_per_step - 1 :: options.slots_per_step]
        halts = torch.zeros(ends.shape[:2], dtype=torch.int64)
        halts[:, -1] = torch.tensor([len(row.steps) == replaced for row in rows]).long()
        sums["halt"] = halt_loss(student.halt(ends).flatten(0, 1), halts.flatten())
    return sums


def step_labels(rows: Sequence[Example], replaced: int, tokens: int) -> Tensor:
    """int64 [B, replaced, tokens]: the first tokens of each replaced step, IGNORED beyond its end."""
    return torch.tensor([[[*step[:tokens], *[IGNORED] * (tokens - len(step))] for step in row.steps[:replaced]] for row in rows])


def _said(student: Student, hidden: Tensor, labels: Tensor) -> TokenSum:
    """hidden [..., d] after the final norm, of the columns that say labels, int64 [...]."""
    return cross_entropy(hidden.flatten(0, -2), labels.flatten(), Head(_head(student)))


def _head(student: Student) -> Tensor:
    return student.embed.weight if student.arch.tie_embeddings else student.lm_head.weight
