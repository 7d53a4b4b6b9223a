"""Answering, and answering again: attempts of one request until the rules say that one will do.

Here: the loop. Not here: when it stops (refine.py), the words of the next prompt (prompts.py), scores (judges).
A request has one budget of latent spans: what its first attempt used, its second does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from runtime.efficiency import Efficiency, Meter
from runtime.engine.endings import ends_cleanly
from runtime.engine.generate import generate
from runtime.engine.latent import halt_chance
from runtime.engine.turn import Generation, GenerationParams
from runtime.load import Loaded
from runtime.orchestration.judges.verdict import Judge, Verdict
from runtime.orchestration.parameters import reads_text
from runtime.orchestration.prompts import Conversation, again, encode
from runtime.orchestration.refine import Decision, HaltReason, Rules, Shown, best, decide


@dataclass(frozen=True)
class Attempt:
    """One loop. forced: whether a span was put after its prompt; head_asked: whether the halt head had a say in how it was generated."""

    generation: Generation
    verdict: Verdict | None
    decision: Decision
    forced: bool
    head_asked: bool


@dataclass(frozen=True)
class Refined:
    """All attempts in order, at least one; the place of the best; what they cost together."""

    attempts: tuple[Attempt, ...]
    best: int
    efficiency: Efficiency

    @property
    def answer(self) -> Attempt:
        return self.attempts[self.best]


OnAttempt = Callable[[Attempt], None]
Answer = Callable[[Sequence[int], GenerationParams], Generation]


def refine(
    loaded: Loaded,
    conversation: Conversation,
    params: GenerationParams,
    rules: Rules,
    judge: Judge | None,
    on_attempt: OnAttempt | None = None,
    answer: Answer | None = None,
) -> Refined:
    """At most `rules.max_loops` attempts. An interrupt ends it with what there is, marked so.

    answer: generates after a prompt, where others share the model; without it the model runs here.

    Raises what encoding, generating and the judge raise for the first attempt; a later prompt that no longer fits ends the loop instead.
    """
    meter, attempts, shown = Meter(), list[Attempt](), list[Shown]()
    as_text = conversation.raw or loaded.tokenizer.chat_template is None
    ids = encode(loaded.tokenizer, conversation)
    answer = answer or (lambda ids, own: generate(loaded.backend, loaded.tokenizer, ids, own))
    while True:
        own = _within_spans(params, sum(one.latent_spans for one in shown))
        forced = own.latent is not None and own.latent.forces(own.sampling.seed, ids)
        generation = answer(ids, own)
        interrupted = generation.reason == "interrupted"
        verdict = judge(conversation.request, generation.text) if judge and not interrupted else None
        shown.append(_shown(loaded, generation, verdict, judge is not None))
        decision = decide(rules, shown)
        end: HaltReason | None = "interrupted" if interrupted else decision.halt_reason
        if end is None:
            ids = encode(loaded.tokenizer, again(conversation, generation.text, verdict, as_text=as_text))
            end = "position_limit" if len(ids) >= loaded.backend.capacity else None
        asked = own.halt_threshold is not None or any(span.halt_probabilities for span in (generation.latent.spans if generation.latent else ()))
        attempts.append(Attempt(generation, verdict, replace(decision, halt_reason=end), forced, asked))
        if on_attempt:
            on_attempt(attempts[-1])
        if end is not None:
            return Refined(tuple(attempts), best(shown), meter.read([one.generation for one in attempts]))


def _within_spans(params: GenerationParams, used: int) -> GenerationParams:
    if params.latent is None:
        return params
    return replace(params, latent=replace(params.latent, max_spans=max(0, params.latent.max_spans - used)))


def _shown(loaded: Loaded, generation: Generation, verdict: Verdict | None, judged: bool) -> Shown:
    spans = len(generation.latent.spans) if generation.latent else 0
    # An attempt that was cut off before its judge could speak is no better than any other.
    score = verdict.score if verdict else 0.0 if judged else None
    return Shown(generation.text, score, verdict.failing if verdict else 0, halt_probability(loaded, generation), spans)


def halt_probability(loaded: Loaded, generation: Generation) -> float | None:
    """What the halt head says of a whole answer, where it was taught to be read: at the last slot of the last span that it was asked about, or where
    the text ends, if it ends as a sentence or line does. None where it was not asked."""
    if loaded.training is None or loaded.training.halt is None:
        return None
    if not reads_text(loaded):
        asked = [span.halt_probabilities for span in generation.latent.spans if span.halt_probabilities] if generation.latent else []
        return asked[-1][-1] if asked else None
    # At any other end the last step is not that of the last character.
    at_end = generation.reason in ("eos", "halt") and ends_cleanly(generation.text)
    if generation.halt_logits is None or not at_end:
        return None
    return halt_chance(generation.halt_logits)
