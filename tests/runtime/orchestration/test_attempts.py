"""The loop of attempts over a real student whose steps are known, and over a model that is written down."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.byte_tokenizer import byte_tokenizer
from fakes.function_backend import FunctionBackend
from fakes.latent_students import known_student, trained, write_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.backends.protocol import Vector
from runtime.engine.turn import GenerationParams
from runtime.load import Loaded, load
from runtime.orchestration.attempts import Refined, refine
from runtime.orchestration.inference import ARGUMENT, InferenceOrchestrator, configured
from runtime.orchestration.judges.verdict import Judge, Verdict
from runtime.orchestration.prompts import asked
from runtime.orchestration.refine import Rules

pytestmark = pytest.mark.train

TOKENIZER = byte_tokenizer()
END = TOKENIZER.info.eos_ids[0]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Loaded]:
    folder = write_checkpoint(tmp_path_factory.mktemp("known") / "checkpoint", known_student(), trained())
    return folder, load(folder)


def orchestrated(student: tuple[Path, Loaded], **fields: Any) -> InferenceOrchestrator:
    folder, loaded = student
    return InferenceOrchestrator(loaded, configured(loaded, folder, None, None, fields, ARGUMENT))


def scoring(*scores: float) -> Judge:
    given_out = iter(scores)
    return lambda _request, _answer: Verdict(next(given_out), "more of it")


@pytest.mark.parametrize(("tier", "loops", "spans"), [("tier_1", 1, [0]), ("tier_2", 2, [1, 0]), ("tier_3", 3, [1, 1, 1])])
def test_the_tiers_differ_as_the_guides_table_says_on_the_real_loop(student: tuple[Path, Loaded], tier: str, loops: int, spans: list[int]) -> None:
    made = orchestrated(student, caws_tier=tier, latent_mode_enabled=True).refine("a", scoring(0.3, 0.3, 0.3))
    assert len(made.attempts) == loops and made.attempts[-1].decision.halt_reason == "max_loops_reached"
    assert [one.decision.latent_spans_used for one in made.attempts] == spans
    texts = [one.generation.text for one in made.attempts]
    assert texts[0] == ("bcde z" if tier == "tier_1" else " z")  # without a span the same model says its steps
    assert made.efficiency.refinement_loops == loops and made.efficiency.latent_spans_used == sum(spans)


@settings(max_examples=25, deadline=None)
@given(
    tier=st.sampled_from(["tier_1", "tier_2", "tier_3"]), loops=st.integers(1, 5), spans=st.integers(0, 5), length=st.integers(1, 6),
    tokens=st.integers(1, 12), halts=st.booleans(), forced=st.sampled_from([0.0, 0.5, 1.0]), score=st.none() | st.floats(0, 1),
)  # fmt: skip
def test_limits_are_never_exceeded(
    student: tuple[Path, Loaded], tier: str, loops: int, spans: int, length: int, tokens: int, halts: bool, forced: float, score: float | None
) -> None:
    orchestrator = orchestrated(
        student, caws_tier=tier, max_refinement_loops=loops, max_latent_spans=spans, max_latent_length=length, max_new_tokens=tokens,
        halt_head_enabled=halts, curriculum_probability=forced, latent_mode_enabled=True,
    )  # fmt: skip
    made = orchestrator.refine("a", None if score is None else lambda _request, _answer: Verdict(score))
    most_loops, most_spans = {"tier_1": (1, 0), "tier_2": (2, 1), "tier_3": (3, 3)}[tier]
    assert len(made.attempts) <= min(loops, most_loops)
    traces = [one.generation.latent for one in made.attempts]
    assert sum(len(trace.spans) for trace in traces if trace) <= min(spans, most_spans)
    assert all(span.slots <= length for trace in traces if trace for span in trace.spans)
    assert all(one.generation.steps <= tokens for one in made.attempts)
    assert all(one.decision.halt_reason is None for one in made.attempts[:-1]) and made.attempts[-1].decision.halt_reason


def test_equal_requests_have_equal_answers_whatever_came_between(student: tuple[Path, Loaded]) -> None:
    orchestrator = orchestrated(student, latent_mode_enabled=True, caws_tier="tier_2")
    first = [one.generation.tokens for one in orchestrator.refine("a", scoring(0.1, 0.1)).attempts]
    orchestrator.refine("c", scoring(0.1, 0.1))
    assert [one.generation.tokens for one in orchestrator.refine("a", scoring(0.1, 0.1)).attempts] == first


def test_the_halt_head_of_a_span_decides_where_no_judge_does(student: tuple[Path, Loaded]) -> None:
    made = orchestrated(student, latent_mode_enabled=True, caws_tier="tier_3").refine("a")
    assert [one.decision.halt_reason for one in made.attempts] == ["halt_head_threshold"]
    (span,) = made.answer.generation.latent.spans  # type: ignore[union-attr]
    assert made.answer.decision.halt_probability == span.halt_probabilities[-1] >= 0.7
    off = orchestrated(student, latent_mode_enabled=True, caws_tier="tier_3", halt_head_enabled=False).refine("a")
    assert len(off.attempts) == 3 and off.best == 2 and off.answer.decision.halt_probability is None


def saying(*answers: str, capacity: int = 400) -> FunctionBackend:
    """A model that says the n-th answer to the n-th prompt."""
    scripts = [[*TOKENIZER.encode(text), END] for text in answers]
    prompts: list[int] = []

    def logits_of(ids: Sequence[int]) -> Vector:
        if not prompts or len(ids) < prompts[-1] or backend.prompts[-1] == list(ids):
            prompts.append(len(ids))
        logits = np.zeros(TOKENIZER.vocab_size, np.float32)
        logits[scripts[min(len(backend.prompts), len(scripts)) - 1][len(ids) - prompts[-1]]] = 1
        return logits

    backend = FunctionBackend(logits_of, capacity=capacity)
    return backend


def attempted(backend: FunctionBackend, judge: Judge | None, *, raw: bool = False, loops: int = 3) -> Refined:
    loaded = Loaded(backend, "eager", TOKENIZER, TOKENIZER.info, None, "0" * 64)
    params = GenerationParams(eos_ids=TOKENIZER.info.eos_ids, max_new_tokens=20)
    return refine(loaded, asked("Say it", raw=raw), params, Rules(0.8, None, loops), judge)


def test_the_best_answer_is_returned_not_the_last() -> None:
    made = attempted(saying("one", "two", "three"), scoring(0.2, 0.6, 0.5))
    assert [one.generation.text for one in made.attempts] == ["one", "two", "three"]
    assert made.answer.generation.text == "two" and made.answer.verdict == Verdict(0.6, "more of it")


def test_the_next_prompt_has_the_attempt_and_what_was_said_of_it() -> None:
    backend = saying("one", "two")
    attempted(backend, scoring(0.25, 0.9))
    texts = ["".join(TOKENIZER.token_bytes(token).decode() for token in prompt) for prompt in backend.prompts]
    assert texts[0] == "user\nSay it\nassistant\n"
    assert texts[1] == "user\nSay it\nassistant\none\nuser\nIt scored 0.25 of 1. more of it Write a better answer.\nassistant\n"
    assert backend.prompts[1][: len(backend.prompts[0])] == backend.prompts[0]  # what is cached can be used again


def test_without_a_template_the_text_goes_on() -> None:
    backend = saying("one", "two")
    attempted(backend, scoring(0.25, 0.9), raw=True)
    text = "".join(TOKENIZER.token_bytes(token).decode() for token in backend.prompts[1])
    assert text == "Say it\n\nPrevious attempt:\none\n\nFeedback:\nIt scored 0.25 of 1. more of it\n\nImproved answer:\n"


def test_a_control_token_that_a_judge_quotes_stays_text() -> None:
    backend = saying("one", "two")
    attempted(backend, lambda _request, answer: Verdict(0.9 if answer == "two" else 0.1, "no <|im_end|>"))
    assert backend.prompts[1].count(END) == backend.prompts[0].count(END) + 2  # the template's own, of two more messages


def test_an_attempt_that_has_no_room_is_not_made_and_the_first_is_kept() -> None:
    made = attempted(saying("one", "two", capacity=40), scoring(0.1))
    assert [one.decision.halt_reason for one in made.attempts] == ["position_limit"] and made.answer.generation.text == "one"


def test_an_interrupt_keeps_what_there_is() -> None:
    backend = saying("one", "two")
    plain = backend.logits_of

    def interrupted(ids: Sequence[int]) -> Vector:
        if len(backend.prompts) == 2 and len(backend.decoded) > len(TOKENIZER.encode("one")):
            raise KeyboardInterrupt
        return plain(ids)

    backend.logits_of = interrupted
    made = attempted(backend, scoring(0.1))
    assert [one.decision.halt_reason for one in made.attempts] == [None, "interrupted"]
    assert made.answer.generation.text == "one"


def test_what_a_judge_raises_is_not_hidden() -> None:
    def broken(_request: str, _answer: str) -> Verdict:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        attempted(saying("one"), broken)
