"""Tasks `questions` and `needles`: what is asked can be answered from what is given, and the truth is the one that the text says."""

from __future__ import annotations

import re

import pytest

from eval.scoring.answers import holds
from interlock.errors import UsageError
from pipeline.datasets import needles, questions
from pipeline.datasets.items import items_of
from pipeline.datasets.tasks import Order

pytestmark = pytest.mark.train


def order(rows: int, seed: int = 0, **parameters: int | str) -> Order:
    return Order(seed, "test", rows, {"lines": "8,16", "depths": 5, **parameters}, frozenset())


def test_questions_are_different_ones_of_every_family_and_their_answers_are_right() -> None:
    items = items_of(questions.make(order(60)))
    assert len({item.given for item in items}) == 60 == len({item.digest for item in items})
    assert {item.strata["stratum"] for item in items} == {"capital", "pair", "continent", "arithmetic", "yesno", "translate", "opposite"}
    for item in items:
        assert holds(item, f"It is {item.answer}.") and not holds(item, ""), item
        if item.strata["stratum"] == "arithmetic" and (found := re.search(r"(\d+) ([-+*]) (\d+)", item.given)):
            a, sign, b = int(found[1]), found[2], int(found[3])
            assert item.answer == str({"+": a + b, "-": a - b, "*": a * b}[sign])
    assert [item.id for item in items_of(questions.make(order(60)))] == [item.id for item in items]
    assert {item.given for item in items_of(questions.make(order(60, seed=1)))} != {item.given for item in items}


def test_more_questions_than_there_are_are_refused() -> None:
    with pytest.raises(UsageError, match="cannot have"):
        next(questions.make(order(100_000)))


def test_a_needle_stands_once_where_the_row_says() -> None:
    rows = list(needles.make(order(20)))
    seen = set()
    for row, item in zip(rows, items_of(rows), strict=True):
        text, _, question = item.given.rpartition("\n\n")
        found = re.search(r"number of (\w+)\?", question)
        assert found
        lines = text.split("\n")
        (place,) = [number for number, line in enumerate(lines) if line == f"The number of {found[1]} is {item.answer}."]
        long = row.metadata["long_context"]
        assert long == {"lines": len(lines), "needle": place + 1}
        seen.add((len(lines), place))
    assert seen == {(8, 0), (8, 2), (8, 4), (8, 5), (8, 7), (16, 0), (16, 4), (16, 8), (16, 11), (16, 15)}


@pytest.mark.parametrize("wrong", [{"lines": "8,x"}, {"lines": "1"}, {"lines": ""}, {"depths": 0}])
def test_parameters_out_of_range_are_refused(wrong: dict[str, int | str]) -> None:
    with pytest.raises(UsageError):
        list(needles.make(order(2, **wrong)))
