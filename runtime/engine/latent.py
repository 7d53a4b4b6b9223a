"""Latent spans: between `<bot>` and `<eot>` the model is fed its own last hidden state instead of a token.

Here: one span, when it ends, the record of it. Not here: the generation around it (turn.py), what a model was trained for
(runtime/latent_mode.py).
A slot takes an ordinary position: its keys and values stay in the cache, and what comes later attends to them. Source: Coconut (Hao et al. 2024,
arXiv:2412.06769): the input of the first slot is the hidden state after the final norm at `<bot>`, that of each other one the state at the slot
before it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from interlock.errors import UsageError
from runtime.backends.protocol import Step, Vector

_TOLD = {"halt": "the halt head ended it", "fixed": "as asked", "limit": "at the limit", "cut": "cut off"}
Ending = Literal["halt", "fixed", "limit", "cut"]
# The codes of the guide's state machine that can still happen: what it drops silently is never chosen here, and what it cannot feed is refused.
Problem = Literal["max_latent_spans", "unmatched_eot", "max_latent_length", "missing_eot"]


@dataclass(frozen=True)
class LatentParams:
    """How spans are run. A span has `fixed_slots` slots, or ends where the halt head's probability reaches `halt_threshold` (asked after each
    `slots_per_step` slots: it was taught at no other, see pipeline/training/objective.py), or after `max_slots`.

    `forced`: the share of prompts after which `<bot>` is put, drawn from the seed and the prompt; after the others the model may emit it.
    """

    bot_id: int
    eot_id: int
    max_spans: int
    max_slots: int
    slots_per_step: int = 1
    fixed_slots: int | None = None
    halt_threshold: float | None = None
    forced: float = 1.0

    def forces(self, seed: int, prompt_ids: Sequence[int]) -> bool:
        """Whether a span follows this prompt at once."""
        return self.max_spans > 0 and np.random.default_rng([seed, *prompt_ids]).random() < self.forced


@dataclass(frozen=True)
class Span:
    """start: the position of its first slot; ended: by the halt head, after the fixed number, at the limit, or cut off with the generation;
    halt_probabilities: where the head was asked."""

    start: int
    slots: int
    ended: Ending
    halt_probabilities: tuple[float, ...] = ()


@dataclass
class Trace:
    """What happened so far. transitions: the mode that began, and at which position; steps: slots, and `<eot>` where it was put in: each is a pass
    through the model that takes one of the tokens a generation may have."""

    spans: list[Span] = field(default_factory=list)
    transitions: list[tuple[Literal["latent", "language"], int]] = field(default_factory=list)
    errors: list[Problem] = field(default_factory=list)
    steps: int = 0

    @property
    def slots(self) -> int:
        return sum(span.slots for span in self.spans)

    def as_dict(self) -> dict[str, Any]:
        return {
            "slots": self.slots,
            "spans": [asdict(span) for span in self.spans],
            "transitions": [{"mode": mode, "position": position} for mode, position in self.transitions],
            "errors": list(self.errors),
        }

    def told(self) -> str:
        """For people, in a few words."""
        spans = [f"{span.slots} slots, {_TOLD[span.ended]}" for span in self.spans]
        return f"latent spans: {'; '.join(spans) or 'none'}"

    def refusal(self, token: int, params: LatentParams) -> Problem | None:
        """Why a token that was chosen in language mode cannot be, None if it can."""
        if token == params.eot_id:
            return "unmatched_eot"
        return "max_latent_spans" if token == params.bot_id and len(self.spans) >= params.max_spans else None


class OpenSpan:
    """A span that goes on: it is given the step of each slot, and told when it is over.

    start: the position of its first slot; budget: the passes that are left to the generation; capacity: the positions of the model. The trace is
    written as it goes: what an interrupt leaves is what there was.
    """

    def __init__(self, params: LatentParams, trace: Trace, *, start: int, budget: int, capacity: int) -> None:
        self._params, self._trace = params, trace
        self._start, self._most = start, min(budget, capacity - start)
        self.slots = 0
        self._ended: Ending | None = None
        self.probabilities: list[float] = []
        trace.transitions.append(("latent", start))

    @property
    def goes_on(self) -> bool:
        """Whether another slot follows; the first may already be one too many."""
        return self._ended is None and self.slots < self._most

    def take(self, step: Step) -> None:
        """The step of the next slot. Raises UsageError where a halt head is wanted and there is none."""
        self.slots += 1
        asked = self._params.fixed_slots is None and self._params.halt_threshold is not None and self.slots % self._params.slots_per_step == 0
        if asked:
            self.probabilities.append(halt_probability(step))
        self._ended = _ended(self._params, self.slots, self.probabilities[-1] if asked else None)

    def close(self) -> bool:
        """Write it down. Whether `<eot>` still fits: if not, the generation is over."""
        fits = self._ended is not None and self.slots < self._most
        self._trace.spans.append(Span(self._start, self.slots, self._ended or "cut", tuple(self.probabilities)))
        self._trace.steps += self.slots + fits
        if self._ended == "limit":
            self._trace.errors.append("max_latent_length")
        if not fits:
            self._trace.errors.append("missing_eot")
        self._trace.transitions.append(("language", self._start + self.slots))
        return fits


def _ended(params: LatentParams, slots: int, halt: float | None) -> Ending | None:
    """Why a span of so many slots is over; None if it is not. halt: the probability of that, None where the head was not asked."""
    if params.fixed_slots is not None:
        return "fixed" if slots == params.fixed_slots else None
    if halt is not None and params.halt_threshold is not None and halt >= params.halt_threshold:
        return "halt"
    return "limit" if slots >= params.max_slots else None


def halt_probability(step: Step) -> float:
    """Softmax of `[continue, halt]` at halt. Raises UsageError without a halt head."""
    if step.halt_logits is None:
        raise UsageError("the model has no halt head that could end a latent span", remedy="give a number of slots, or train a halt head")
    return halt_chance(step.halt_logits)


def halt_chance(halt_logits: Sequence[float] | Vector) -> float:
    """Softmax of `[continue, halt]` at halt. halt_logits: [2], fp32 or plain numbers."""
    stay, halt = map(float, halt_logits)
    return 1 / (1 + math.exp(min(stay - halt, 700.0)))  # exp(710) is more than fp64 holds
