"""A drawn token follows the distribution that its parameters promise, and equal seeds give equal tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.errors import StageFailed, UsageError
from runtime.engine.sampling import Sampler, SamplingParams, candidates

LOGITS = np.array([2.0, 1.0, 0.5, 0.0, -0.5, -1.0, -2.0, -3.0], np.float32)


def test_greedy_takes_the_lowest_of_equal_ids() -> None:
    logits = np.array([0, 3, -1, 3, 3], np.float32)
    assert Sampler(SamplingParams()).next(logits, []) == 1
    assert Sampler(SamplingParams(repetition_penalty=1.5)).next(logits, [1]) == 3


def test_draws_follow_the_softmax() -> None:
    draws = 20_000
    sampler = Sampler(SamplingParams(temperature=1.0, seed=7))
    counts = np.bincount([sampler.next(LOGITS, []) for _ in range(draws)], minlength=len(LOGITS))
    expected = draws * np.exp(LOGITS) / np.exp(LOGITS).sum()
    assert float(((counts - expected) ** 2 / expected).sum()) < 29.88  # chi-square with 7 degrees of freedom, 99.99 %


def test_equal_seeds_give_equal_tokens_and_others_do_not() -> None:
    def tokens(seed: int) -> list[int]:
        sampler = Sampler(SamplingParams(temperature=1.0, seed=seed))
        return [sampler.next(LOGITS, []) for _ in range(40)]

    assert tokens(3) == tokens(3)
    assert tokens(3) != tokens(4)


def test_a_seed_means_the_same_everywhere() -> None:
    """The stream of PCG64 is published and fixed: a change here changes every recorded generation."""
    sampler = Sampler(SamplingParams(temperature=1.0, seed=0))
    assert [sampler.next(np.zeros(1000, np.float32), []) for _ in range(5)] == [636, 269, 40, 16, 813]


@given(
    st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=40),
    st.floats(0.05, 3),
    st.integers(0, 50),
    st.floats(0.01, 1),
    st.floats(0, 1),
    st.lists(st.integers(0, 0), max_size=2),
)
def test_candidates_are_a_distribution_that_keeps_the_best(
    values: list[float], temperature: float, top_k: int, top_p: float, min_p: float, history: list[int]
) -> None:
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    ids, probabilities = candidates(np.array(values, np.float32), history, params)
    assert list(ids) == sorted(set(ids))
    assert probabilities.sum() == pytest.approx(1)
    # The best stays, or one that no fp64 softmax tells from it.
    assert max(np.exp((values[i] - max(values)) / temperature) for i in ids) == pytest.approx(1, abs=1e-12)
    assert len(ids) <= (top_k or len(values)) or values.count(sorted(values)[-top_k]) > 1


def test_masked_ids_are_never_drawn() -> None:
    logits = np.full(50, -np.inf, np.float32)
    logits[[7, 9]] = 0
    sampler = Sampler(SamplingParams(temperature=1.0))
    assert {sampler.next(logits, []) for _ in range(100)} == {7, 9}


def test_logits_are_not_changed() -> None:
    logits = LOGITS.copy()
    Sampler(SamplingParams(temperature=0.5, top_k=3, repetition_penalty=2.0)).next(logits, [0, 1])
    assert np.array_equal(logits, LOGITS)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_fail(bad: float) -> None:
    with pytest.raises(StageFailed, match="not finite"):
        Sampler(SamplingParams()).next(np.array([0, bad], np.float32), [])
    with pytest.raises(StageFailed, match="not finite"):
        Sampler(SamplingParams()).next(np.full(3, -np.inf, np.float32), [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("repetition_penalty", 0.0),
        ("seed", -1),
    ],
)
def test_a_value_outside_its_range_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"`{name}`"):
        SamplingParams(**{name: value})  # type: ignore[arg-type]
