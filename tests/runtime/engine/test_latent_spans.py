"""Latent spans over a backend that is written down: what is fed where, why a span is over, and what the record says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from fakes.byte_tokenizer import byte_tokenizer
from fakes.function_backend import ListCache

from interlock.errors import UsageError
from runtime.backends.protocol import Step, Vector, check_room
from runtime.engine.generate import generate
from runtime.engine.latent import LatentParams
from runtime.engine.turn import Generation, GenerationParams

TOKENIZER = byte_tokenizer()
SIZE = TOKENIZER.vocab_size + 2
BOT, EOT = SIZE - 2, SIZE - 1
PROMPT = TOKENIZER.encode("hi")
WORD = TOKENIZER.encode("ok")
EOS = TOKENIZER.info.eos_ids[0]


@dataclass
class Scripted:
    """Says `script`, one token after another, whenever a token is given; each hidden state is its own number. `fed` keeps every input in order:
    tokens as they are, vectors as the number in them, with a minus. halts: the probability of halting at the n-th vector of a span."""

    script: Sequence[int]
    halts: Sequence[float] | None = None
    capacity: int = 64
    fed: list[int] = field(default_factory=list)
    said: int = 0
    vectors: int = 0

    def new_cache(self) -> ListCache:
        return ListCache()

    def prefill(self, ids: Sequence[int], cache: ListCache) -> Step:
        check_room(self.capacity, cache.position, len(ids))
        cache.ids += ids[:-1]
        self.fed += ids[:-1]
        return self.decode(ids[-1], cache)

    def decode(self, inp: int | Vector, cache: ListCache) -> Step:
        check_room(self.capacity, cache.position, 1)
        vector = isinstance(inp, np.ndarray)
        self.fed.append(-int(inp[0]) if isinstance(inp, np.ndarray) else inp)
        self.vectors = self.vectors + 1 if vector else 0
        cache.ids.append(self.fed[-1])
        logits = np.zeros(SIZE, np.float32)
        if not vector and inp != BOT and self.said < len(self.script):
            logits[self.script[self.said]] = 2
            logits[WORD[0]] += 1  # the second choice
            self.said += 1
        halt = None
        if self.halts is not None:
            chance = self.halts[self.vectors - 1] if vector else 0.5
            halt = np.array([0, np.log(chance / (1 - chance))], np.float32)
        return Step(logits, halt, np.array([len(self.fed)], np.float32))


def params(**changes: object) -> LatentParams:
    fields = {"bot_id": BOT, "eot_id": EOT, "max_spans": 1, "max_slots": 5, "halt_threshold": 0.7} | changes
    return LatentParams(**fields)  # type: ignore[arg-type]


def ran(backend: Scripted, latent: LatentParams, most: int = 32) -> Generation:
    return generate(backend, TOKENIZER, PROMPT[:1], GenerationParams(max_new_tokens=most, eos_ids=(EOS,), latent=latent))


def test_each_slot_is_fed_the_state_before_it_and_eot_follows_the_halt() -> None:
    backend = Scripted([*WORD, EOS], halts=[0.1, 0.2, 0.9])
    made = ran(backend, params())
    # inputs 1 and 2 are the prompt and <bot>: the state at <bot> has number 2, that at the first slot 3, …
    assert backend.fed == [PROMPT[0], BOT, -2, -3, -4, EOT, *WORD]
    assert (made.text, made.tokens, made.reason) == ("ok", (*WORD, EOS), "eos")
    assert made.latent is not None
    (span,) = made.latent.spans
    assert (span.start, span.slots, span.ended) == (2, 3, "halt") and span.halt_probabilities == pytest.approx((0.1, 0.2, 0.9))
    assert made.latent.transitions == [("latent", 2), ("language", 5)] and made.latent.errors == []
    assert made.steps == 3 + 1 + 3


@pytest.mark.parametrize(
    ("changes", "slots", "ended", "errors"),
    [
        ({}, 5, "limit", ["max_latent_length"]),
        ({"fixed_slots": 2}, 2, "fixed", []),
        ({"halt_threshold": None}, 5, "limit", ["max_latent_length"]),
        ({"halt_threshold": 0.3}, 3, "halt", []),
        ({"halt_threshold": 0.3, "slots_per_step": 2, "max_slots": 6}, 4, "halt", []),
    ],
)
def test_why_a_span_is_over(changes: dict[str, object], slots: int, ended: str, errors: list[str]) -> None:
    """With two slots for a step the head is not asked at the third: it was taught nothing there."""
    made = ran(Scripted([*WORD, EOS], halts=[0.1, 0.2, 0.4, 0.6, 0.1, 0.1]), params(**changes))
    assert made.latent is not None
    assert [(span.slots, span.ended) for span in made.latent.spans] == [(slots, ended)] and made.latent.errors == errors


def test_the_model_may_begin_a_span_itself_and_no_more_than_are_allowed() -> None:
    backend = Scripted([WORD[0], BOT, WORD[1], BOT, EOT, EOS], halts=[0.9])
    made = ran(backend, params(forced=0.0))
    # the second <bot> and the <eot> are not said: their second choice is, and is what the model is fed
    assert backend.fed == [PROMPT[0], WORD[0], BOT, -3, EOT, WORD[1], WORD[0], WORD[0]]
    assert made.text == "okoo" and made.latent is not None and made.latent.errors == ["max_latent_spans", "unmatched_eot"]
    assert made.tokens == (WORD[0], BOT, WORD[1], WORD[0], WORD[0], EOS)


CUT = ["missing_eot"]


@pytest.mark.parametrize(("most", "slots", "fed_eot", "errors"), [(2, 2, 0, CUT), (3, 3, 0, CUT), (4, 3, 1, []), (5, 3, 1, [])])
def test_slots_and_eot_are_of_the_tokens_that_a_generation_may_have(most: int, slots: int, fed_eot: int, errors: list[str]) -> None:
    backend = Scripted([*WORD, EOS], halts=[0.1, 0.2, 0.9])
    made = ran(backend, params(), most)
    assert made.latent is not None and (made.latent.slots, backend.fed.count(EOT), made.latent.errors) == (slots, fed_eot, errors)
    assert made.steps == most and made.reason == "length"


@pytest.mark.parametrize(("capacity", "ended"), [(4, "cut"), (5, "halt")])
def test_a_span_ends_where_the_positions_do(capacity: int, ended: str) -> None:
    made = ran(Scripted([*WORD, EOS], halts=[0.1, 0.2, 0.9], capacity=capacity), params())
    assert made.reason == "position_limit" and made.text == "" and made.latent is not None
    assert made.latent.spans[0].ended == ended and made.latent.errors == ["missing_eot"]


def test_halting_without_a_head_is_refused_with_the_way_out() -> None:
    with pytest.raises(UsageError, match="no halt head") as refused:
        ran(Scripted([EOS]), params())
    assert "slots" in refused.value.remedy


def test_the_share_of_forced_spans_is_drawn_from_seed_and_prompt() -> None:
    prompts = [[1, number] for number in range(400)]
    half = params(forced=0.5)
    forced = [half.forces(0, ids) for ids in prompts]
    assert forced == [half.forces(0, ids) for ids in prompts] != [half.forces(1, ids) for ids in prompts]
    assert 160 < sum(forced) < 240  # 400 draws of one half: four standard deviations are 40
    assert not any(params(forced=1.0, max_spans=0).forces(0, ids) for ids in prompts) and not params(forced=0.0).forces(0, [1])


@dataclass
class OnlyThen:
    """A constraint by hand: `wanted` one after another; the last is forced."""

    wanted: list[int]

    def mask(self, logits: Vector) -> None:
        logits[[token for token in range(SIZE) if token != self.wanted[0]]] = -np.inf

    def accept(self, token: int) -> None:
        assert token == self.wanted.pop(0)

    def forced(self) -> list[int]:
        return [self.wanted.pop()] if len(self.wanted) == 1 else []

    @property
    def may_end(self) -> bool:
        return not self.wanted

    complete = may_end


@pytest.mark.parametrize("forced", [0.0, 1.0])
def test_a_constraint_says_nothing_about_spans(forced: float) -> None:
    """One that is put in before the answer, and one that the model begins in the midst of it."""
    backend = Scripted([*([] if forced else [WORD[1], BOT]), EOS, EOS], halts=[0.9])
    answer = GenerationParams(eos_ids=(EOS,), latent=params(forced=forced), constraint=lambda: OnlyThen([WORD[0], WORD[0], WORD[1]]))
    made = generate(backend, TOKENIZER, PROMPT[:1], answer)
    assert (made.text, made.reason, made.forced) == ("ook", "complete", 1) and made.latent is not None
    assert [span.slots for span in made.latent.spans] == [1] and made.latent.errors == []
    assert made.tokens == ((*WORD[:1], BOT, *WORD) if not forced else (WORD[0], *WORD))
