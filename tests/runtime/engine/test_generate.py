"""The token loop ends where it says it does, and streams exactly the text that it returns."""

from __future__ import annotations

import numpy as np
import pytest
from fakes.byte_tokenizer import byte_tokenizer
from fakes.function_backend import FunctionBackend, reciting
from hypothesis import given
from hypothesis import strategies as st

from interlock.errors import UsageError
from runtime.engine.generate import generate
from runtime.engine.sampling import SamplingParams
from runtime.engine.turn import Generation, GenerationParams
from runtime.engine.writing import StopFinder

TOKENIZER = byte_tokenizer()
END = TOKENIZER.encode("<|im_end|>", control=True)
PROMPT = TOKENIZER.encode("Say it:")


def said(text: str, *, capacity: int = 200, **params: object) -> tuple[Generation, list[str], FunctionBackend]:
    """What comes of a model that says `text` and then ends."""
    backend = reciting(len(PROMPT), [*TOKENIZER.encode(text), *END], TOKENIZER.vocab_size, capacity=capacity)
    streamed: list[str] = []
    full = GenerationParams(eos_ids=tuple(END), **params)  # type: ignore[arg-type]
    return generate(backend, TOKENIZER, PROMPT, full, streamed.append), streamed, backend


def test_a_text_ends_at_its_end_token() -> None:
    generation, streamed, backend = said("hello 👩‍👩‍👧!")
    assert (generation.text, generation.reason, generation.prompt_tokens) == ("hello 👩‍👩‍👧!", "eos", len(PROMPT))
    assert generation.tokens == (*TOKENIZER.encode("hello 👩‍👩‍👧!"), *END)
    assert "".join(streamed) == generation.text
    assert not any("\ufffd" in piece for piece in streamed)
    assert backend.prompts == [PROMPT]
    assert backend.decoded == list(generation.tokens[:-1])  # the last token is never fed back


def test_a_limit_of_tokens_needs_no_step_beyond_it() -> None:
    generation, _, backend = said("hello hello", max_new_tokens=1)
    assert (generation.text, generation.reason, backend.decoded) == ("hello", "length", [])


def test_positions_run_out() -> None:
    generation, _, _ = said("abcdefgh", capacity=len(PROMPT) + 3)
    assert (generation.text, generation.reason) == ("abcd", "position_limit")


def test_half_a_character_at_the_end_is_shown_as_such() -> None:
    generation, streamed, _ = said("a👍", max_new_tokens=3)
    assert generation.text == "".join(streamed) == "a\ufffd"


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("abc STOP def", ("STOP",), "abc "),
        ("abc STO", ("STOP",), "abc STO"),
        ("STOP", ("STOP",), ""),
        ("abSTSTOPc", ("STOP",), "abST"),
        ("one\n\ntwo", ("\n\n", "two"), "one"),
        ("abcd", ("bc", "abcd"), "a"),
        ("hello", ("he", "hell"), ""),
        ("x👍y", ("👍",), "x"),
    ],
)
def test_a_stop_text_is_found_across_tokens_and_never_streamed(text: str, stop: tuple[str, ...], expected: str) -> None:
    generation, streamed, _ = said(text, stop=stop)
    assert generation.text == "".join(streamed) == expected
    assert generation.reason == ("stop" if any(word in text for word in stop) else "eos")


def by_character(text: str, stops: list[str]) -> str:
    for end in range(1, len(text) + 1):
        for stop in sorted(stops, key=len, reverse=True):
            if text[:end].endswith(stop):
                return text[: end - len(stop)]
    return text


@given(st.text("abc", max_size=30), st.lists(st.text("abc", min_size=1, max_size=5), max_size=3), st.lists(st.integers(0, 30), max_size=8))
def test_how_text_is_cut_into_pieces_does_not_change_where_it_stops(text: str, stops: list[str], cuts: list[int]) -> None:
    finder, released = StopFinder(stops), ""
    ends = [*sorted(cuts), len(text)]
    for start, end in zip([0, *ends], ends, strict=False):
        released += finder.push(text[start:end])
        assert by_character(text, stops).startswith(released)
        if finder.found:
            break
    assert released + finder.rest() == by_character(text, stops)


def test_a_prompt_beyond_the_positions_names_both_numbers() -> None:
    with pytest.raises(UsageError, match=f"{len(PROMPT)} tokens.* 5 positions") as refused:
        said("a", capacity=5)
    assert "at least 2 tokens" in refused.value.remedy
    assert said("ab", capacity=len(PROMPT))[0].text == "a"


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(UsageError, match="no tokens"):
        generate(reciting(0, END, TOKENIZER.vocab_size), TOKENIZER, [], GenerationParams())


@pytest.mark.parametrize("bad", [{"max_new_tokens": 0}, {"stop": ("a", "")}])
def test_parameters_are_checked(bad: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        GenerationParams(**bad)  # type: ignore[arg-type]


def test_an_interrupt_ends_with_the_text_so_far() -> None:
    script = TOKENIZER.encode("abST")

    def logits_of(ids: object) -> np.ndarray:
        if len(backend.decoded) == 4:
            raise KeyboardInterrupt
        return recitation.logits_of(ids)  # type: ignore[arg-type]

    recitation = reciting(len(PROMPT), script, TOKENIZER.vocab_size)
    backend = FunctionBackend(logits_of)
    streamed: list[str] = []
    generation = generate(backend, TOKENIZER, PROMPT, GenerationParams(stop=("STOP",)), streamed.append)
    assert (generation.text, generation.reason, len(generation.tokens)) == ("abST", "interrupted", 4)
    assert "".join(streamed) == "abST"  # what was held back as a possible stop text comes out


def test_an_interrupt_of_the_prompt_has_no_token_and_no_times() -> None:
    def logits_of(ids: object) -> np.ndarray:
        raise KeyboardInterrupt

    generation = generate(FunctionBackend(logits_of), TOKENIZER, PROMPT, GenerationParams())
    assert generation == Generation("", (), "interrupted", len(PROMPT), None, None, None)


def test_times_are_in_order() -> None:
    generation, _, _ = said("hello hello hello")
    assert generation.prefill_ms is not None and generation.first_token_ms is not None and generation.decode_tokens_per_s is not None
    assert 0 < generation.prefill_ms <= generation.first_token_ms
    assert generation.decode_tokens_per_s > 0


def test_a_seed_decides_the_text() -> None:
    def texts(seed: int) -> str:
        backend = FunctionBackend(lambda ids: np.zeros(TOKENIZER.vocab_size, np.float32))
        return generate(backend, TOKENIZER, PROMPT, GenerationParams(SamplingParams(temperature=1.0, seed=seed), max_new_tokens=20)).text

    assert texts(1) == texts(1) != texts(2)


def halting(text: str, threshold: float, *, stop: tuple[str, ...] = ()) -> Generation:
    """What comes of a model whose head is the surer the longer its text: log-odds of the number of tokens less 8."""
    backend = reciting(len(PROMPT), [*TOKENIZER.encode(text), *END], TOKENIZER.vocab_size)
    backend.halt_of = lambda ids: np.array([0, len(ids) - len(PROMPT) - 8], np.float32)
    return generate(backend, TOKENIZER, PROMPT, GenerationParams(eos_ids=tuple(END), halt_threshold=threshold, stop=stop))


def test_a_halt_head_is_obeyed_at_the_first_end_where_it_is_sure_enough() -> None:
    """Ends after 3, 8 and 13 one-byte tokens; the head says 0.5 at 8 and 0.9933 at 13."""
    text = "ab.cdef.ghij.kl"
    for threshold, said in ((0.4, "ab.cdef."), (0.5, "ab.cdef."), (0.51, "ab.cdef.ghij."), (0.994, text), (0.0, "ab.")):
        generation = halting(text, threshold)
        assert (generation.text, generation.reason) == (said, "eos" if said == text else "halt"), threshold


def test_where_it_ends_does_not_depend_on_what_is_held_back_for_a_stop_text() -> None:
    assert halting("ab.cdef.ghij.", 0.5, stop=(".ghix",)).text == "ab.cdef."
    assert halting("ab.cdef.ghij.", 0.5, stop=("f.",)).reason == "stop"


def test_a_threshold_without_a_head_is_refused() -> None:
    with pytest.raises(UsageError, match="no halt head"):
        said("ab.", halt_threshold=0.5)
