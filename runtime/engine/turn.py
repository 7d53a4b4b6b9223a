"""One generation as a machine: it says what the model is to be given, takes the step that follows, and knows when it is over.

    turn = Turn(tokenizer, prompt_ids, params, backend.capacity)
    while turn.reason is None:
        turn.take(advance(backend, cache, turn.inputs))

Here: when a generation ends, what is fed next, the record. Not here: who runs the model, one generation alone (generate.py) or many at once; choosing
a token (sampling.py), which may be chosen (constraints), text and ids (tokenizer.py, writing.py), where a text may end (endings.py), one latent span
(latent.py).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from interlock.errors import UsageError
from runtime.backends.protocol import Step, Vector
from runtime.engine.constraints.protocol import Begin
from runtime.engine.endings import ends_cleanly
from runtime.engine.latent import LatentParams, OpenSpan, Trace, halt_chance
from runtime.engine.logprobs import Chosen, log_probabilities
from runtime.engine.sampling import Sampler, SamplingParams
from runtime.engine.tokenizer import Stream, Tokenizer
from runtime.engine.writing import OnText, Writer

Reason = Literal["eos", "stop", "complete", "halt", "length", "position_limit", "interrupted"]


@dataclass(frozen=True)
class GenerationParams:
    """`stop`: texts that end the generation and are not part of it. `latent`: how latent spans are run, None for a model that may not have any.
    `halt_threshold`: the probability from which on a halt head that reads sentence and line ends is obeyed; None asks no head.
    `drafts`: how many tokens are guessed from the text so far and proven in one pass of the model; the answer is the same. `constraint`: begins
    what the answer's tokens must keep to; it says nothing about latent spans, and a halt head is obeyed only where the answer is whole.
    `shown`: control tokens that are written into the text as they are spelled.
    `logprobs`: how many of the likeliest tokens are told beside each chosen one; None tells nothing.

    Raises UsageError for a limit below 1, fewer than no drafts or an empty stop text."""

    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_new_tokens: int = 256
    stop: tuple[str, ...] = ()
    eos_ids: tuple[int, ...] = ()
    latent: LatentParams | None = None
    halt_threshold: float | None = None
    drafts: int = 0
    constraint: Begin | None = None
    shown: tuple[int, ...] = ()
    logprobs: int | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise UsageError(f"`max_new_tokens` is {self.max_new_tokens}", remedy="generate at least one token")
        if self.drafts < 0:
            raise UsageError(f"`drafts` is {self.drafts}", remedy="0 guesses nothing; 4 to 8 suit texts that repeat their prompt")
        if "" in self.stop:
            raise UsageError("a stop text is empty", remedy="leave it out")


@dataclass(frozen=True)
class Generation:
    """What was generated and how fast. `tokens`: every id that was chosen, one that ended the text and those of a stop text included. `latent`: what
    happened in latent spans, None where they were off. `forced`: tokens that a constraint left no choice about and that took no pass of their own.
    `halt_logits`: `[continue, halt]` of the last step, at which the last token was chosen; None without a halt head.

    Times are of the monotonic clock, from the call on; None where it did not come so far. `decode_tokens_per_s` counts from the first token
    to the last.
    """

    text: str
    tokens: tuple[int, ...]
    reason: Reason
    prompt_tokens: int
    prefill_ms: float | None
    first_token_ms: float | None
    decode_tokens_per_s: float | None
    latent: Trace | None = None
    forced: int = 0
    halt_logits: tuple[float, float] | None = None
    logprobs: tuple[Chosen, ...] = ()

    @property
    def steps(self) -> int:
        """Positions after the prompt that the answer took, latent slots and an `<eot>` that was put in included: what `max_new_tokens` limits."""
        return len(self.tokens) + (self.latent.steps if self.latent else 0)

    @property
    def passes(self) -> int:
        """Passes of the model that the answer took, the prompt's included."""
        return self.steps - self.forced


class Turn:
    """One generation.

    inputs: what the model is to be given next, ids (at least one) or a latent vector [d] fp32 in place of one; reason: why it is over, None while it
    goes on; logprobs: of the chosen tokens, where they are wanted; halt_probability: the head's last, where it is asked. Raises UsageError for a
    prompt that is empty or longer than `capacity`, the model's positions.
    """

    def __init__(
        self, tokenizer: Tokenizer, prompt_ids: Sequence[int], params: GenerationParams, capacity: int, on_text: OnText | None = None
    ) -> None:
        _check(prompt_ids, capacity)
        self._params, self._capacity = params, capacity
        self._prompt_tokens = len(prompt_ids)
        self._sampler = Sampler(params.sampling)
        self._writer = Writer(Stream(tokenizer, params.shown), params.stop, on_text)
        self._times = _Times(time.perf_counter())
        self._tokens: list[int] = []
        self._forced = 0
        self._constraint = params.constraint() if params.constraint else None
        self._trace = Trace() if params.latent else None
        self._span: OpenSpan | None = None
        # Whether the step that comes next is that of a `<bot>` which begins a span.
        self._begins = params.latent is not None and params.latent.forces(params.sampling.seed, prompt_ids)
        self._history = [*prompt_ids, *([params.latent.bot_id] if params.latent and self._begins else [])]
        self._position = 0
        self._halt_logits: Vector | None = None
        self.inputs: list[int] | Vector = list(self._history)
        self.reason: Reason | None = None
        self.logprobs: list[Chosen] = []
        self.halt_probability: float | None = None

    @property
    def history(self) -> list[int]:
        """The prompt and every chosen token, in order: what is said so far. Not to be changed."""
        return self._history

    @property
    def drafts(self) -> int:
        """How many tokens may be guessed at a time."""
        return self._params.drafts

    @property
    def steps(self) -> int:
        """Of the tokens that a generation may have, those that are used."""
        return len(self._tokens) + (self._trace.steps if self._trace else 0)

    @property
    def slots(self) -> int:
        """Latent slots so far, those of a span that goes on included."""
        return (self._trace.slots if self._trace else 0) + (self._span.slots if self._span else 0)

    def take(self, step: Step) -> None:
        """The step after `inputs`. Raises UsageError where a halt head is asked and there is none."""
        fed, self._position = self.inputs, self._position + (1 if isinstance(self.inputs, np.ndarray) else len(self.inputs))
        self._times.prefilled = self._times.prefilled or time.perf_counter()
        self._halt_logits = step.halt_logits
        if isinstance(fed, list) and self._tokens and fed[-1] == self._tokens[-1] and self._halts(step):
            self.end("halt")
        elif self._begins or self._span:
            self._in_span(step)
        elif self.steps == self._params.max_new_tokens:
            self.end("length")
        else:
            self._choose(step)

    def end(self, reason: Reason) -> None:
        """It is over: what was held back is passed on."""
        self.reason = reason
        self._writer.finish()

    def result(self) -> Generation:
        return Generation(
            text=self._writer.text,
            tokens=tuple(self._tokens),
            reason=self.reason or "interrupted",
            prompt_tokens=self._prompt_tokens,
            prefill_ms=self._times.since_start_ms(self._times.prefilled),
            first_token_ms=self._times.since_start_ms(self._times.first),
            decode_tokens_per_s=self._times.speed(len(self._tokens)),
            latent=self._trace,
            forced=self._forced,
            halt_logits=None if self._halt_logits is None else (float(self._halt_logits[0]), float(self._halt_logits[1])),
            logprobs=tuple(self.logprobs),
        )

    def _in_span(self, step: Step) -> None:
        latent, trace = self._params.latent, self._trace
        assert latent and trace
        if self._span is None:
            self._begins = False
            budget = self._params.max_new_tokens - self.steps
            self._span = OpenSpan(latent, trace, start=self._position, budget=budget, capacity=self._capacity)
        else:
            self._span.take(step)
            self.halt_probability = self._span.probabilities[-1] if self._span.probabilities else None
        if self._span.goes_on:
            self.inputs = step.hidden
            return
        fits, self._span = self._span.close(), None
        if fits:
            self.inputs = [latent.eot_id]
        else:
            self.end("length" if self.steps == self._params.max_new_tokens else "position_limit")

    def _choose(self, step: Step) -> None:
        """The next token, those that a constraint forces after it, and whether one of them ends the text."""
        probable = None if self._params.logprobs is None else log_probabilities(step.logits)
        tokens = self._next(step)
        self._times.said()
        for number, token in enumerate(tokens):
            whole = self._constraint is not None and self._constraint.complete and number == len(tokens) - 1
            self._forced += number > 0
            if probable is not None and self._params.logprobs is not None:
                # What is forced after a choice was no choice: it had no step either.
                self.logprobs.append(Chosen(token, 0.0, ()) if number else Chosen.of(probable, token, self._params.logprobs))
            if reason := self._say(token) or ("complete" if whole else self._spent(self._position + number)):
                self.end(reason)
                return
        self.inputs = tokens
        self._begins = self._params.latent is not None and tokens[-1] == self._params.latent.bot_id

    def _next(self, step: Step) -> list[int]:
        """At least one. Forced ones follow at once; only at the beginning of an answer there can be some before any choice."""
        constraint, latent = self._constraint, self._params.latent
        if constraint is None:
            return [self._allowed(step)]
        if forced := constraint.forced():
            return forced
        bot = step.logits[latent.bot_id] if latent else 0
        constraint.mask(step.logits)
        if latent:
            step.logits[latent.bot_id] = bot
        token = self._allowed(step)
        if latent and token == latent.bot_id:
            return [token]
        constraint.accept(token)
        return [token, *constraint.forced()]

    def _say(self, token: int) -> Reason | None:
        self._tokens.append(token)
        self._history.append(token)
        if token in self._params.eos_ids:
            return "eos"
        return "stop" if self._writer.push(token) else None

    def _spent(self, position: int) -> Reason | None:
        """Whether nothing can follow a token that would be fed at `position`."""
        if self.steps == self._params.max_new_tokens:
            return "length"
        return "position_limit" if position == self._capacity else None

    def _allowed(self, step: Step) -> int:
        """One that latent mode cannot have here is noted, and another is chosen: what is not fed to the model is not said either."""
        token = self._sampler.next(step.logits, self._history)
        latent, trace = self._params.latent, self._trace
        while latent and trace and (problem := trace.refusal(token, latent)):
            trace.errors.append(problem)
            step.logits[token] = -np.inf
            token = self._sampler.next(step.logits, self._history)
        return token

    def _halts(self, step: Step) -> bool:
        """Whether the head's softmax over `[continue, halt]` reaches the threshold, where a text may end."""
        threshold = self._params.halt_threshold
        if threshold is None:
            return False
        if step.halt_logits is None:
            raise UsageError("the model has no halt head to be obeyed", remedy="leave HALT_HEAD unset, or deploy a student that has one")
        self.halt_probability = halt_chance(step.halt_logits)
        whole = self._constraint is None or self._constraint.may_end
        return whole and self.halt_probability >= threshold and ends_cleanly(self._writer.said)


def _check(prompt_ids: Sequence[int], capacity: int) -> None:
    if not prompt_ids:
        raise UsageError("the prompt has no tokens", remedy="give a text")
    if len(prompt_ids) > capacity:
        raise UsageError(
            f"the prompt has {len(prompt_ids)} tokens, the model has {capacity} positions",
            remedy=f"shorten the prompt by at least {len(prompt_ids) - capacity} tokens, or use a model that was built with more positions",
        )


@dataclass
class _Times:
    """Moments of the monotonic clock, in seconds; None for what has not come."""

    started: float
    prefilled: float | None = None
    first: float | None = None
    last: float | None = None

    def said(self) -> None:
        self.last = time.perf_counter()
        self.first = self.first or self.last

    def speed(self, tokens: int) -> float | None:
        if tokens < 2 or self.first is None or self.last is None or self.last <= self.first:
            return None
        return (tokens - 1) / (self.last - self.first)

    def since_start_ms(self, moment: float | None) -> float | None:
        return None if moment is None else (moment - self.started) * 1e3
