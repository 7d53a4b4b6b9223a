"""The token loop: prompt ids in, text out, over any backend.

Here: when a generation ends and what is streamed meanwhile. Not here: choosing a token (sampling.py), text and ids (tokenizer.py), where a text may
end (endings.py), what happens inside a latent span (latent.py), constrained decoding.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from interlock.errors import UsageError
from runtime.backends.protocol import Backend, CacheT, Step
from runtime.engine.endings import ends_cleanly
from runtime.engine.latent import LatentParams, Trace, run_span
from runtime.engine.sampling import Sampler, SamplingParams
from runtime.engine.tokenizer import Stream, Tokenizer

Reason = Literal["eos", "stop", "halt", "length", "position_limit", "interrupted"]
OnText = Callable[[str], None]


@dataclass(frozen=True)
class GenerationParams:
    """`stop`: texts that end the generation and are not part of it. `latent`: how latent spans are run, None for a model that may not have any.
    `halt_threshold`: the probability from which on a halt head that reads sentence and line ends is obeyed; None asks no head.

    Raises UsageError for a limit below 1 or an empty stop text."""

    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_new_tokens: int = 256
    stop: tuple[str, ...] = ()
    eos_ids: tuple[int, ...] = ()
    latent: LatentParams | None = None
    halt_threshold: float | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise UsageError(f"`max_new_tokens` is {self.max_new_tokens}", remedy="generate at least one token")
        if "" in self.stop:
            raise UsageError("a stop text is empty", remedy="leave it out")


@dataclass(frozen=True)
class Generation:
    """What was generated and how fast. `tokens`: every id that was chosen, one that ended the text and those of a stop text included. `latent`: what
    happened in latent spans, None where they were off.

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

    @property
    def steps(self) -> int:
        """Positions after the prompt that the answer took, latent slots and an `<eot>` that was put in included: what `max_new_tokens` limits."""
        return len(self.tokens) + (self.latent.steps if self.latent else 0)


def generate(
    backend: Backend[CacheT], tokenizer: Tokenizer, prompt_ids: Sequence[int], params: GenerationParams, on_text: OnText | None = None
) -> Generation:
    """Continue `prompt_ids` until a token or text that ends it, or a limit.

    `on_text` gets the text in pieces of whole characters, together exactly `Generation.text`; nothing that may still become a stop text is passed on.
    An interrupt (Ctrl-C) ends the generation with what there is. Raises UsageError for a prompt that is empty or longer than the model's positions,
    and for a halt threshold where the model has no halt head.
    """
    if not prompt_ids:
        raise UsageError("the prompt has no tokens", remedy="give a text")
    if len(prompt_ids) > backend.capacity:
        raise UsageError(
            f"the prompt has {len(prompt_ids)} tokens, the model has {backend.capacity} positions",
            remedy=f"shorten the prompt by at least {len(prompt_ids) - backend.capacity} tokens, or use a model that was built with more positions",
        )
    progress = _Progress(time.perf_counter(), latent=Trace() if params.latent else None)
    writer = _Writer(Stream(tokenizer), params.stop, on_text)
    try:
        reason = _loop(backend, prompt_ids, params, progress, writer)
    except KeyboardInterrupt:
        reason = "interrupted"
    writer.finish()
    return progress.result(writer.text, reason, len(prompt_ids))


@dataclass
class _Progress:
    """What is known at any moment, so that an interrupt loses nothing."""

    started: float
    prefilled: float | None = None
    first: float | None = None
    last: float | None = None
    tokens: list[int] = field(default_factory=list)
    latent: Trace | None = None

    @property
    def steps(self) -> int:
        return len(self.tokens) + (self.latent.steps if self.latent else 0)

    def add(self, token: int) -> None:
        self.last = time.perf_counter()
        self.first = self.first or self.last
        self.tokens.append(token)

    def result(self, text: str, reason: Reason, prompt_tokens: int) -> Generation:
        steps, speed = len(self.tokens) - 1, None
        if steps > 0 and self.first is not None and self.last is not None and self.last > self.first:
            speed = steps / (self.last - self.first)
        return Generation(
            text=text,
            tokens=tuple(self.tokens),
            reason=reason,
            prompt_tokens=prompt_tokens,
            prefill_ms=self._since_start_ms(self.prefilled),
            first_token_ms=self._since_start_ms(self.first),
            decode_tokens_per_s=speed,
            latent=self.latent,
        )

    def _since_start_ms(self, moment: float | None) -> float | None:
        return None if moment is None else (moment - self.started) * 1e3


def _loop(backend: Backend[CacheT], prompt_ids: Sequence[int], params: GenerationParams, progress: _Progress, writer: _Writer) -> Reason:
    sampler, latent = Sampler(params.sampling), params.latent
    begins_latent = latent is not None and latent.forces(params.sampling.seed, prompt_ids)
    history = [*prompt_ids, *([latent.bot_id] if latent and begins_latent else [])]
    cache = backend.new_cache()
    step = backend.prefill(history, cache)
    progress.prefilled = time.perf_counter()
    token = latent.bot_id if latent and begins_latent else None
    while True:
        if latent and progress.latent and token == latent.bot_id:
            after = run_span(backend, cache, step, latent, params.max_new_tokens - progress.steps, progress.latent)
            if after is None or progress.steps == params.max_new_tokens:
                return "length" if progress.steps == params.max_new_tokens else "position_limit"
            step = after
        token = _choose(sampler, step, history, latent, progress.latent)
        progress.add(token)
        history.append(token)
        if token in params.eos_ids:
            return "eos"
        if writer.push(token):
            return "stop"
        if progress.steps == params.max_new_tokens:
            return "length"
        if cache.position == backend.capacity:
            return "position_limit"
        step = backend.decode(token, cache)
        if params.halt_threshold is not None and _halts(step, params.halt_threshold) and ends_cleanly(writer.said):
            return "halt"


def _halts(step: Step, threshold: float) -> bool:
    """Whether the head's softmax over `[continue, halt]` reaches the threshold."""
    if step.halt_logits is None:
        raise UsageError("the model has no halt head to be obeyed", remedy="leave HALT_HEAD unset, or deploy a student that has one")
    stay, halt = map(float, step.halt_logits)
    return 1 / (1 + math.exp(min(stay - halt, 700.0))) >= threshold  # exp(710) is more than fp64 holds


def _choose(sampler: Sampler, step: Step, history: Sequence[int], latent: LatentParams | None, trace: Trace | None) -> int:
    """The next token. One that latent mode cannot have here is noted, and another is chosen: what is not fed to the model is not said either."""
    token = sampler.next(step.logits, history)
    while latent and trace and (problem := trace.refusal(token, latent)):
        trace.errors.append(problem)
        step.logits[token] = -np.inf
        token = sampler.next(step.logits, history)
    return token


class _Writer:
    """Tokens to text, held back while it may be the start of a stop text."""

    def __init__(self, stream: Stream, stops: tuple[str, ...], on_text: OnText | None) -> None:
        self._stream = stream
        self._stops = StopFinder(stops)
        self._on_text = on_text
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def said(self) -> str:
        """Everything so far, what is held back included."""
        return self.text + self._stops.held

    def push(self, token: int) -> bool:
        """Whether a stop text is complete."""
        self._pass_on(self._stops.push(self._stream.push(token)))
        return self._stops.found

    def finish(self) -> None:
        if not self._stops.found:
            self._pass_on(self._stops.push(self._stream.finish()) + self._stops.rest())

    def _pass_on(self, text: str) -> None:
        if text:
            self._pieces.append(text)
            if self._on_text:
                self._on_text(text)


class StopFinder:
    """Finds the stop text that is complete first, in text that comes in pieces; how it is cut into pieces makes no difference.

    Holds at most the longest stop text less one character.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._longest = max(map(len, stops), default=0)
        self.held = ""
        self.found = False

    def push(self, text: str) -> str:
        """Text that is certainly before any stop text. After `found` nothing more is to be pushed."""
        text = self.held + text
        # Completed first; of those that end together the longest, since it began first.
        ends = [(start + len(stop), start) for stop in self._stops if (start := text.find(stop)) >= 0]
        if ends:
            self.found = True
            self.held = ""
            return text[: min(ends)[1]]
        keep = next((n for n in range(min(self._longest - 1, len(text)), 0, -1) if any(stop.startswith(text[-n:]) for stop in self._stops)), 0)
        self.held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def rest(self) -> str:
        """What was held back, when no more text comes."""
        rest, self.held = self.held, ""
        return rest
