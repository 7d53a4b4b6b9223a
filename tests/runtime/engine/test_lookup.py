"""Guessed tokens change how often the model is run, and nothing that is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fakes.byte_tokenizer import byte_tokenizer
from fakes.function_backend import FunctionBackend
from fakes.students import tiny_student
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.contracts.checkpoint import ModelArch
from interlock.errors import UsageError
from runtime.backends.eager import EagerBackend, eager_from
from runtime.backends.protocol import Vector
from runtime.engine.generate import generate
from runtime.engine.lookup import LONGEST, SHORTEST, Lookup
from runtime.engine.sampling import SamplingParams
from runtime.engine.turn import Generation, GenerationParams

TOKENIZER = byte_tokenizer()


@pytest.fixture(scope="module")
def backend() -> EagerBackend:
    return eager_from(tiny_student(ModelArch(use_halt_head=True), n_layers=2, vocab_size=TOKENIZER.vocab_size, max_position=120))


def facts(generation: Generation) -> tuple[object, ...]:
    return generation.text, generation.tokens, generation.reason, generation.prompt_tokens


@settings(max_examples=30, deadline=None)
@given(
    prompt=st.lists(st.integers(0, 5), min_size=1, max_size=60), drafts=st.integers(1, 9), temperature=st.sampled_from([0.0, 0.05, 1.0]),
    seed=st.integers(0, 99), limit=st.integers(1, 80), penalty=st.sampled_from([1.0, 1.3]), halt=st.sampled_from([None, 0.5]),
)  # fmt: skip
def test_the_answer_is_the_same(
    backend: EagerBackend, prompt: list[int], drafts: int, temperature: float, seed: int, limit: int, penalty: float, halt: float | None
) -> None:
    """Few ids, so that much repeats; limits of tokens and of positions fall into the middle of guesses."""
    sampling = SamplingParams(temperature=temperature, seed=seed, repetition_penalty=penalty)
    plain = GenerationParams(sampling, max_new_tokens=limit, eos_ids=(7,), halt_threshold=halt, stop=("aa",))
    expected = generate(backend, TOKENIZER, prompt, plain)
    assert facts(generate(backend, TOKENIZER, prompt, replace(plain, drafts=drafts))) == facts(expected)


class Counting(FunctionBackend):
    """Knows how many passes it made."""

    passes = 0

    def score(self, ids: list[int], cache: object) -> list[object]:  # type: ignore[override]
        self.passes += 1
        return super().score(ids, cache)  # type: ignore[return-value, arg-type]


def test_a_text_that_repeats_its_prompt_takes_few_passes() -> None:
    quoted = list(range(10, 50))

    def logits_of(ids: list[int]) -> Vector:
        logits = np.zeros(TOKENIZER.vocab_size, np.float32)
        logits[quoted[(len(ids) - len(quoted)) % len(quoted)]] = 1
        return logits

    backend = Counting(logits_of, capacity=200)  # type: ignore[arg-type]
    generation = generate(backend, TOKENIZER, quoted, GenerationParams(max_new_tokens=40, drafts=8))
    assert list(generation.tokens) == quoted
    # The first two tokens are found by no run; then each pass proves eight and chooses one.
    assert backend.passes <= 6


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 8))
def test_a_guess_is_what_followed_last_time(text: list[int], most: int) -> None:
    """Against a search from the end, asked after every token."""
    lookup = Lookup(most)
    for end in range(len(text) + 1):
        said, expected = text[:end], list[int]()
        for length in range(min(LONGEST, end), SHORTEST - 1, -1):
            places = [at for at in range(end - length) if said[at : at + length] == said[end - length :]]
            if places and not expected:
                expected = said[places[-1] + length :][:most]
        assert lookup.after(said) == expected


def test_no_drafts_ask_for_nothing() -> None:
    assert Lookup(0).after([1, 2, 1, 2, 1]) == []
    with pytest.raises(UsageError, match="drafts"):
        GenerationParams(drafts=-1)
