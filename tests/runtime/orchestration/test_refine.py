"""The rules of refinement: which reason ends it, in which order, and that no request goes beyond its loops."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.orchestration.refine import Rules, Shown, best, decide, likeness

RULES = Rules(judge_score=0.8, halt_probability=0.7, max_loops=3)


def shown(text: str = "one two", score: float | None = None, failing: int = 0, halt: float | None = None, spans: int = 0) -> Shown:
    return Shown(text, score, failing, halt, spans)


@pytest.mark.parametrize(("loops", "reasons"), [(1, ["max_loops_reached"]), (2, [None, "max_loops_reached"]), (3, [None, None, "max_loops_reached"])])
def test_the_tiers_loops_end_what_a_judge_does_not_like(loops: int, reasons: list[str | None]) -> None:
    rules = Rules(0.8, None, loops)
    assert [decide(rules, [shown(score=0.3)] * (number + 1)).halt_reason for number in range(loops)] == reasons


@pytest.mark.parametrize(
    ("attempts", "reason"),
    [
        ([shown(score=0.8)], "judge_score_threshold"),
        ([shown(score=0.79)], None),
        ([shown("a b c", 0.3, 1), shown("a b d", 0.85, 0)], "judge_score_and_delta_shrinking"),
        # rewritten from the ground up after a small change: accepted all the same
        ([shown("a b c", 0.3), shown("a b d", 0.3), shown("x y z", 0.85)], "judge_score_threshold"),
        # a score that rises while more checks fail contradicts itself
        ([shown(score=0.3, failing=1), shown(score=0.9, failing=2)], None),
        ([shown(halt=0.7)], "halt_head_threshold"),
        ([shown(halt=0.69)], None),
        ([shown(halt=0.99, score=0.3)], None),  # complete is not right
        ([shown()], None),
        ([shown(), shown(), shown(score=0.9)], "judge_score_and_delta_shrinking"),  # an accepted last loop says so
        ([shown(), shown(), shown(halt=0.9)], "halt_head_threshold"),
    ],
)
def test_the_first_reason_that_holds(attempts: list[Shown], reason: str | None) -> None:
    assert decide(RULES, attempts).halt_reason == reason


def test_a_head_that_is_off_is_not_obeyed() -> None:
    assert decide(Rules(0.8, None, 3), [shown(halt=1.0)]).halt_reason is None


def test_a_decision_records_what_it_rests_on() -> None:
    made = decide(RULES, [shown("a b c d", 0.2, 3, spans=1), shown("a b c e", 0.4, 2, 0.6, spans=2)])
    assert (made.loop, made.judge_score, made.halt_probability, made.latent_spans_used, made.total_latent_spans) == (2, 0.4, 0.6, 2, 3)
    assert made.delta == 3 / 5 and made.delta_shrinking  # three words of five in common, and there was nothing before


SHOWN = st.builds(
    Shown, text=st.text("ab ", max_size=6), score=st.none() | st.floats(0, 1), failing=st.integers(0, 3), latent_spans=st.integers(0, 3),
    halt_probability=st.none() | st.floats(0, 1),
)  # fmt: skip


@given(st.lists(SHOWN, min_size=1, max_size=8), st.integers(1, 6), st.floats(0, 1))
def test_no_request_goes_on_beyond_its_loops(attempts: list[Shown], loops: int, threshold: float) -> None:
    decided = [decide(Rules(threshold, threshold, loops), attempts[: number + 1]) for number in range(len(attempts))]
    assert all(one.halt_reason is not None for one in decided if one.loop >= loops)
    assert [one.loop for one in decided] == [*range(1, len(attempts) + 1)]
    assert decided[-1].total_latent_spans == sum(one.latent_spans for one in attempts)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_the_answer_is_the_earliest_of_the_best(scores: list[float]) -> None:
    assert best([shown(score=score) for score in scores]) == scores.index(max(scores))


def test_without_a_judge_the_last_attempt_is_the_answer() -> None:
    assert best([shown(), shown(), shown()]) == 2


@given(st.text("ab c", max_size=20), st.text("ab c", max_size=20))
def test_likeness_is_that_of_bags_of_words(one: str, other: str) -> None:
    a, b = one.split(), other.split()
    common = sum(min(a.count(word), b.count(word)) for word in {*a})
    assert likeness(one, other) == likeness(other, one) == (common / (len(a) + len(b) - common) if a or b else 1.0)
