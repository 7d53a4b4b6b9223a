"""The frontier against every combination: nothing is both smaller and nearer than one of its points, and its prices are right."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.coreml.compression.assignment import Option, Point, frontier, largest_within, smallest_within

# Divergences in 64ths: sums are exact, so that equal means equal.
OPTION = st.builds(lambda size, kl: Option(f"{size}", size, kl / 64), st.integers(1, 40), st.integers(0, 256))
OPTIONS = st.dictionaries(st.sampled_from("abcd"), st.lists(OPTION, min_size=1, max_size=4), min_size=1)
Options = Mapping[str, Sequence[Option]]


def combinations(options: Options) -> list[tuple[int, float]]:
    """(bytes, kl) of every choice."""
    return [(sum(o.size_bytes for o in chosen), sum(o.kl for o in chosen)) for chosen in itertools.product(*options.values())]


@given(OPTIONS)
def test_no_combination_is_smaller_and_nearer_than_a_point(options: Options) -> None:
    every = combinations(options)
    for point in frontier(options):
        assert not any((size < point.size_bytes and kl <= point.kl) or (size <= point.size_bytes and kl < point.kl) for size, kl in every)


@given(OPTIONS)
def test_every_step_has_a_price_for_which_both_its_ends_are_best(options: Options) -> None:
    every, points = combinations(options), frontier(options)
    for before, after in itertools.pairwise(points):
        price = (before.kl - after.kl) / (after.size_bytes - before.size_bytes)
        best = min(kl + price * size for size, kl in every)
        assert before.kl + price * before.size_bytes == pytest.approx(best) == after.kl + price * after.size_bytes


@given(OPTIONS)
def test_it_begins_with_the_fewest_bytes_and_ends_with_the_least_divergence(options: Options) -> None:
    every, points = combinations(options), frontier(options)
    assert (points[0].size_bytes, points[0].kl) == min(every)
    assert (points[-1].kl, points[-1].size_bytes) == min((kl, size) for size, kl in every)


@given(OPTIONS)
def test_points_are_what_their_choices_add_up_to(options: Options) -> None:
    points = frontier(options)
    for point in points:
        chosen = [options[name][index] for name, index in point.choice.items()]
        assert set(point.choice) == set(options)
        assert (point.size_bytes, point.kl) == (sum(o.size_bytes for o in chosen), sum(o.kl for o in chosen))
    for before, after in itertools.pairwise(points):
        assert sum(before.choice[name] != after.choice[name] for name in options) == 1
        assert before.size_bytes < after.size_bytes and before.kl > after.kl


def test_equal_and_useless_options_are_never_chosen_twice() -> None:
    same = [Option("a", 4, 1.0), Option("b", 4, 1.0), Option("larger and worse", 9, 2.0), Option("exact", 16, 0.0)]
    assert [point.choice["w"] for point in frontier({"w": same})] == [0, 3]
    assert [point.choice for point in frontier({"w": [Option("only", 4, 1.0)]})] == [{"w": 0}]


@given(OPTIONS, st.floats(0, 20))
def test_the_smallest_that_is_good_is_found_by_few_questions(options: Options, limit: float) -> None:
    points, asked = frontier(options), []

    def good(point: Point) -> bool:
        asked.append(point)
        return point.kl <= limit

    assert smallest_within(points, good) is next((point for point in points if point.kl <= limit), None)
    assert len(asked) <= 1 + len(points).bit_length()


@given(OPTIONS, st.integers(0, 200))
def test_the_largest_that_fits_is_found(options: Options, size: int) -> None:
    points = frontier(options)
    fitting = [point for point in points if point.size_bytes <= size]
    assert largest_within(points, size) is (fitting[-1] if fitting else None)
