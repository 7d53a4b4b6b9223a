"""Runs of `decode_latent`: a span after the shortest prefill, fed with the student's hidden states and with its own, and what is decoded after it.

Here: which calls are made and what each is compared with. Not here: the student's span (spans.py), the other functions (stateful.py).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from interlock.contracts.package import LATENT, Evidence, Thresholds
from pipeline.gates.evidence import rows
from pipeline.gates.headroom import Watch
from pipeline.gates.reference import Reference
from pipeline.gates.spans import LatentStep, Span
from runtime.mil import Runner, State

if TYPE_CHECKING:
    from pipeline.gates.stateful import Session

# The longest span that is run: no published curriculum is longer, and each slot is a pass through the model.
MOST_SLOTS = 64
# Tokens that are decoded after the span: they attend to its slots.
AFTER = 8
FED_BACK, AFTER_SPAN = "own state fed back", "after a latent span"


def measure_latent(session: Session, text: Reference, slots: int) -> bool:
    """Add the evidence of `decode_latent` and return whether a repeated call gave the same bits. slots: of the longest span that was trained; at
    least one is run."""
    length = session.lengths[0]
    count = min(max(slots, 1), MOST_SLOTS, session.limit - length)
    if count < 1:
        return True
    session.task.note(f"{LATENT}, {count} slots")
    span = Span.of(session.student, text.ids[:length], count, text.ids[length : min(length + AFTER, session.limit - count)])
    state = session.runner.new_state(f"prefill_{length}")
    for _ in session.prefill(text.ids[:length], length, 0, state, [length - 1]):
        pass
    forced, chained = session.pool(LATENT), session.pool(LATENT, FED_BACK)
    chained.allowed_db -= 10 * math.log10(count)
    chained.add(span.outputs, span.chained(stepping(session.runner, state, session.watch)))
    said = span.forced(stepping(session.runner, state))  # over the same slots again
    forced.add(span.outputs, said)
    session.keep(forced)
    session.keep(chained)
    last = stepping(session.runner, state)(span.fed[-1], span.start + count - 1)
    if span.after:
        later = session.pool("decode", AFTER_SPAN)
        found = session.decode({span.start + count + at: token for at, token in enumerate(span.after)}, span.start + count, len(span.after), state)
        assert found is not None
        later.add(span.after_outputs, found)
        session.keep(later)
    return all(np.array_equal(last[name][0], said[name][-1], equal_nan=True) for name in last)


def stepping(runner: Runner, state: State, observe: Watch | None = None) -> LatentStep:
    """`decode_latent` on a state, as a step."""

    def step(vector: Tensor, position: int) -> dict[str, Tensor]:
        inputs = {"inputs_embeds": vector.half().numpy()[None, None], "position_ids": np.array([position], np.int32)}
        return rows(runner.run(LATENT, inputs, state, observe))

    return step


def chained_bounds(item: Evidence, least: Thresholds) -> Thresholds:
    """What evidence must reach: `least`, but for a chain of n slots fed with its own states. There the errors of n steps add up: independent ones,
    none enlarged by the next step, give an rms error of √n, that is 10 log10 n dB and, being quadratic in the error, n times the KL."""
    if item.case != FED_BACK:
        return least
    n = item.positions
    return Thresholds(psnr_db=least.psnr_db - 10 * math.log10(n), kl_mean=n * least.kl_mean, kl_max=n * least.kl_max)
