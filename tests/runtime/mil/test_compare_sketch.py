"""A sketch keeps distances: exactly for small values, on average for large ones, and no element is left out."""

from __future__ import annotations

import math

import pytest
import torch

from runtime.mil.compare.sketch import BUCKETS, EXACT, distance, sketched


def drawn(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


def test_small_values_are_compared_exactly() -> None:
    one, other = drawn(EXACT, 0), drawn(EXACT, 1)
    largest, rms = distance(sketched(one), sketched(other))
    assert largest == pytest.approx(float((one - other).abs().max()))
    assert rms == pytest.approx(float((one - other).square().mean().sqrt()))


@pytest.mark.parametrize("count", [EXACT + 1, 40 * BUCKETS + 17, 3_000_000])
def test_large_values_keep_their_distance(count: int) -> None:
    """The sum of BUCKETS squared sums has a relative deviation of √(2 / BUCKETS) = 2 %: five of them."""
    one, other = drawn(count, 0), drawn(count, 1)
    assert distance(sketched(one), sketched(other))[1] == pytest.approx(math.sqrt(2), rel=0.11)


@pytest.mark.parametrize("at", [0, 77_777, 4_999_999])
def test_one_changed_element_of_five_million_is_seen(at: int) -> None:
    one = drawn(5_000_000, 0)
    other = one.clone()
    other[at] += 3.0
    assert distance(sketched(one), sketched(other))[0] == pytest.approx(3.0, abs=1e-3)


def test_what_is_not_finite_on_one_side_is_infinitely_far() -> None:
    one = drawn(10, 0)
    for bad in (math.nan, math.inf):
        other = one.clone()
        other[3] = bad
        assert distance(sketched(one), sketched(other)) == (math.inf, math.inf)
        assert distance(sketched(other), sketched(other)) == (0.0, 0.0)


def test_a_sketch_is_a_copy() -> None:
    value = torch.ones(4)
    kept = sketched(value)
    value.zero_()
    assert float(kept.sums.sum()) == 4.0
