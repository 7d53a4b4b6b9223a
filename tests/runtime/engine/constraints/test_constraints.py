"""Constrained answers: whatever the model wants, they are valid by an independent validator, and nothing else about a generation changes."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Sequence
from typing import Any

import jsonschema
import numpy as np
import pytest
from fakes.byte_tokenizer import byte_tokenizer
from fakes.function_backend import FunctionBackend, reciting
from fakes.schemas import random_schema
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.backends.protocol import Vector
from runtime.engine.constraints import sources
from runtime.engine.constraints.compiled import Matcher, compile_constraint
from runtime.engine.generate import generate
from runtime.engine.sampling import SamplingParams
from runtime.engine.turn import Generation, GenerationParams

pytestmark = pytest.mark.train

TOKENIZER = byte_tokenizer()
SIZE, EOS = TOKENIZER.vocab_size, TOKENIZER.info.eos_ids
PROMPT = TOKENIZER.encode("Say it:")
BYTES = [TOKENIZER.token_bytes(token) for token in range(SIZE)]
seeds = st.integers(0, 1 << 32)


def dice(seed: int) -> FunctionBackend:
    """A model that wants something else each time, as if its weights were random."""
    return FunctionBackend(lambda ids: np.random.default_rng([seed, *ids]).normal(size=SIZE).astype(np.float32), capacity=4000)


def answer(source: sources.Source, backend: FunctionBackend, *, most: int = 2000, **params: Any) -> Generation:
    constraint = compile_constraint(TOKENIZER, source)
    return generate(backend, TOKENIZER, PROMPT, GenerationParams(max_new_tokens=most, eos_ids=EOS, constraint=constraint, **params))


def warm(seed: int) -> SamplingParams:
    """Every filter, on and off: none may let in what is masked."""
    top_k, top_p, min_p, penalty = (seed >> bit & 1 for bit in range(4))
    return SamplingParams(1.0, 3 * top_k, 0.9 if top_p else 1.0, 0.05 * min_p, 1.3 if penalty else 1.0, seed)


@given(seeds)
@settings(max_examples=60, deadline=None)
def test_every_answer_is_a_value_of_its_schema(seed: int) -> None:
    schema = random_schema(random.Random(seed))
    made = answer(sources.json_schema(schema), dice(seed), sampling=warm(seed))
    assert made.reason in ("complete", "eos"), (schema, made.text)
    jsonschema.validate(json.loads(made.text), schema)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_an_answer_is_matched_by_its_expression_as_a_whole(seed: int) -> None:
    for pattern in (r"[0-9]{3}-[a-f]{2,4}", r"(yes|no|maybe)( indeed)?!", r"é+\.[^x\n]{2}"):
        assert re.fullmatch(pattern, answer(sources.regex(pattern), dice(seed), sampling=warm(seed)).text)
    # how Lark reads texts and numbers is the claim: the language is that of the expression
    grammar = 'start: pair+\npair: "<" /[a-c]{1,2}/ ":" DIGIT ">"\nDIGIT: /[0-9]/'
    assert re.fullmatch(r"(<[a-c]{1,2}:[0-9]>)+", answer(sources.lark(grammar), dice(seed), sampling=warm(seed)).text)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), min_size=1, max_size=6), seeds)
@settings(max_examples=60, deadline=None)
def test_an_answer_is_one_of_the_choices_and_each_can_be(choices: list[str], seed: int) -> None:
    source = sources.choices(choices)
    assert answer(source, dice(seed), sampling=warm(seed)).text in choices
    for wanted in choices:
        assert answer(source, wanting(wanted)).text == wanted


def wanting(text: str) -> FunctionBackend:
    """A model that wants the next byte of `text`, however its beginning was cut into tokens, and then to end."""
    first = {said: token for token, said in reversed(list(enumerate(BYTES)))}

    def logits_of(ids: Sequence[int]) -> Vector:
        rest = text.encode()[sum(len(BYTES[token]) for token in ids[len(PROMPT) :]) :]
        logits = np.zeros(SIZE, np.float32)
        logits[first[rest[:1]] if rest else EOS[0]] = 1
        return logits

    return FunctionBackend(logits_of, capacity=4000)


class Stepwise:
    """The same constraint, with every token chosen by itself."""

    def __init__(self, inner: Matcher) -> None:
        self._inner = inner
        self.mask, self.accept = inner.mask, inner.accept

    def forced(self) -> list[int]:
        return []

    @property
    def may_end(self) -> bool:
        return self._inner.may_end

    @property
    def complete(self) -> bool:
        return self._inner.complete


def reader(seed: int) -> FunctionBackend:
    """A model that sees text, not tokens, and says one byte at a time: how forced text is cut into tokens cannot change what it wants."""
    single = np.array([len(said) == 1 or token in EOS for token, said in enumerate(BYTES)])

    def logits_of(ids: Sequence[int]) -> Vector:
        text = b"".join(BYTES[token] for token in ids)
        wants = np.random.default_rng(list(hashlib.sha256(text + bytes([seed % 256])).digest())).normal(size=SIZE).astype(np.float32)
        return np.where(single, wants, np.float32(-50))

    return FunctionBackend(logits_of, capacity=4000)


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_forced_tokens_are_the_text_that_one_token_after_another_gives(seed: int) -> None:
    compiled = compile_constraint(TOKENIZER, sources.json_schema(random_schema(random.Random(seed))))
    fast, slow = reader(seed), reader(seed)
    params = GenerationParams(max_new_tokens=2000, eos_ids=EOS, constraint=compiled)
    by_force = generate(fast, TOKENIZER, PROMPT, params)
    one_by_one = generate(slow, TOKENIZER, PROMPT, GenerationParams(max_new_tokens=2000, eos_ids=EOS, constraint=lambda: Stepwise(compiled())))
    assert (by_force.text, by_force.reason) == (one_by_one.text, one_by_one.reason)
    # a pass for each token, but for the last, which nobody reads, and those that were forced
    assert (one_by_one.forced, one_by_one.passes) == (0, len(slow.prompts) + len(slow.decoded))
    assert by_force.passes == len(fast.prompts) + len(fast.decoded) == len(by_force.tokens) - by_force.forced


FIXED = sources.json_schema(
    {"type": "object", "properties": {"hello": {"const": "hello hello"}}, "required": ["hello"], "additionalProperties": False}
)
WHOLE = '{"hello": "hello hello"}'


def test_forced_text_takes_one_pass_and_is_streamed() -> None:
    backend, streamed = dice(0), list[str]()
    params = GenerationParams(eos_ids=EOS, constraint=compile_constraint(TOKENIZER, FIXED))
    made = generate(backend, TOKENIZER, PROMPT, params, streamed.append)
    assert (made.text, "".join(streamed), made.reason) == (WHOLE, WHOLE, "complete")
    assert backend.prompts == [PROMPT] and backend.decoded == []  # the prompt alone: nothing was the model's to say
    assert TOKENIZER.decode(made.tokens) == WHOLE


def test_limits_and_stop_texts_hold_among_forced_tokens() -> None:
    whole = answer(FIXED, dice(0)).tokens
    for most in range(1, len(whole)):
        made = answer(FIXED, dice(0), most=most)
        assert (made.tokens, made.reason) == (whole[:most], "length")
    assert answer(FIXED, dice(0), most=len(whole)).reason == "complete"
    made = answer(FIXED, dice(0), stop=('hello": "he',))
    assert (made.text, made.reason) == ('{"', "stop")
    for room in range(len(whole) - 1):
        tight = dice(0)
        tight.capacity = len(PROMPT) + room
        made = answer(FIXED, tight)
        assert (made.tokens, made.reason) == (whole[: room + 1], "position_limit")


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_what_allows_everything_changes_nothing(seed: int) -> None:
    ascii_only = np.array([token in EOS or (bool(said) and max(said) < 128) for token, said in enumerate(BYTES)])

    def logits_of(ids: Sequence[int]) -> Vector:
        wants = np.random.default_rng([seed, *ids]).normal(size=SIZE).astype(np.float32)
        return np.where(ascii_only, wants, np.float32(-np.inf))

    everything = compile_constraint(TOKENIZER, sources.regex(r"(?s:.)*"))
    texts = [
        generate(FunctionBackend(logits_of), TOKENIZER, PROMPT, GenerationParams(warm(seed), 40, eos_ids=EOS, constraint=constraint))
        for constraint in (everything, None)
    ]
    assert texts[0].tokens == texts[1].tokens and texts[0].reason == texts[1].reason


def test_the_end_of_a_text_is_allowed_only_where_it_is_whole() -> None:
    """A model that wants to end at once, and always."""
    ending = reciting(len(PROMPT), [EOS[0]], SIZE)
    made = answer(sources.regex("a{3}b*"), ending)
    assert (made.text, made.reason) == ("aaa", "eos")
    assert not any(token in EOS for token in made.tokens[:-1])


def test_a_halt_head_is_obeyed_only_where_the_answer_is_whole() -> None:
    for pattern, said, reason in ((r"a\. a\. a\.", "a. a. a.", "complete"), (r"a\.( a\.)*", "a.", "halt"), (r"a\. a\.( a\.)*", "a. a.", "halt")):
        backend = dice(0)
        backend.halt_of = lambda ids: np.array([-9, 9], np.float32)
        made = answer(sources.regex(pattern), backend, halt_threshold=0.5)
        assert (made.text, made.reason) == (said, reason), pattern


def test_a_tokenizer_without_an_end_ends_where_nothing_can_follow() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.info = tokenizer.info.model_copy(update={"eos_ids": ()})
    constraint = compile_constraint(tokenizer, sources.regex("[ab]{4}"))
    padded = FunctionBackend(lambda ids: np.random.default_rng([*ids]).normal(size=SIZE + 9).astype(np.float32))
    made = generate(padded, tokenizer, PROMPT, GenerationParams(constraint=constraint))
    assert re.fullmatch("[ab]{4}", made.text) and made.reason == "complete"
    assert max(made.tokens) < SIZE
