"""A batch with a latent span: prompt, `<bot>`, n slots, `<eot>`, what is still said in text.

Here: the passes of training, what they leave to be supervised, the throw-away decoder of steps. Not here: losses (objective.py), spans at run time
(runtime/engine/latent.py). The input of slot 1 is the hidden state at `<bot>` after the final norm, that of slot i + 1 the hidden state at slot i
(Coconut, arXiv:2412.06769); gradients flow through all passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.training.examples import Example, Special, left_padded, right_padded
from pipeline.training.passes import Grown, run
from runtime.student.model import Student

# What a slot gets instead of the hidden state [B, 1, d] that it would get: identity in training, an intervention in evaluation.
Feed = Callable[[Tensor], Tensor]


class StepDecoder(nn.Module):
    """Reads the first `tokens` tokens of a step off the hidden state that stands for it: token j by the model's own head over a linear map of its
    own, the first without one. Used in training only (the cheapest form of SIM-CoT's auxiliary decoder, arXiv:2509.20317)."""

    def __init__(self, width: int, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.maps = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(tokens - 1))
        for one in self.maps:
            nn.init.eye_(one.weight)  # type: ignore[arg-type]

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden: [..., d] → [..., tokens, d], for the model's head."""
        return torch.stack([hidden, *(one(hidden) for one in self.maps)], -2)


@dataclass(frozen=True)
class Span:
    """What the passes over one batch leave: the hidden states that became slots and those at the slots, [B, n, d] each, and those over the text after
    the span, [B, T, d], of which column t says column t + 1 of `text`, int64 [B, T] (`<eot>` first)."""

    fed: Tensor
    at: Tensor
    after: Tensor
    text: Tensor


def run_span(
    student: Student,
    rows: Sequence[Example],
    special: Special,
    *,
    replaced: int,
    slots_per_step: int,
    feed: Feed | None = None,
    pause: Tensor | None = None,
    recompute: bool = False,
) -> Span:
    """The rows with their first `replaced` ≥ 1 steps in slots. `pause` [d] feeds that constant to every slot, which then is one pass with the
    text."""
    assert special.bot is not None and special.eot is not None
    prompt, padding = left_padded([(*row.prompt, special.bot) for row in rows], special.pad)
    text = right_padded([(special.eot, *row.tail(replaced)) for row in rows], special.pad)
    slots = replaced * slots_per_step
    cache = Grown(recompute=recompute)
    hidden = run(student, prompt, cache, padding)
    tail = student.embed(text)
    if pause is not None:
        fed = pause.expand(len(rows), slots, -1)
        hidden = torch.cat([hidden[:, -1:], run(student, torch.cat([fed, tail], 1), cache)], 1)
        # a hidden state that would have become a slot is the one before it, here as there
        return Span(hidden[:, :slots], hidden[:, 1 : slots + 1], hidden[:, slots + 1 :], text)
    became, at = [hidden[:, -1:]], []
    for slot in range(1, slots + 1):
        x = became[-1] if feed is None else feed(became[-1])
        last = slot == slots
        hidden = run(student, torch.cat([x, tail], 1) if last else x, cache)
        at.append(hidden[:, :1])
        if not last:
            became.append(hidden)
    return Span(torch.cat(became, 1), torch.cat(at, 1), hidden[:, 1:], text)
