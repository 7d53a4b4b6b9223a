"""A gate passes when its whole interval does; what a number of items cannot show is said with the number that could."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from eval.statistics.gates import Figure, check_known, enough, judge, stops, told, verdict
from eval.statistics.intervals import Interval, wilson
from eval.suite import Claim
from interlock.errors import UsageError


def figure(right: int, n: int, *missed: str) -> Figure:
    return Figure(wilson(right, n, 0.95) if n else None, n, "wilson", missed)


@pytest.mark.parametrize(
    ("right", "n", "least", "ends"),
    [(60, 60, 0.9, "pass"), (15, 15, 0.9, "inconclusive"), (10, 15, 0.9, "fail"), (90, 100, 0.9, "inconclusive"), (0, 0, 0.9, "inconclusive")],
)
def test_the_verdict_is_of_the_interval(right: int, n: int, least: float, ends: str) -> None:
    (gate,) = judge({"rate": figure(right, n)}, {"rate": Claim(at_least=least)}, 0.95)
    assert (gate.verdict, gate.n, gate.name) == (ends, n, "rate")


@pytest.mark.parametrize("least", [0.9, 0.95, 0.98, 0.99])
def test_the_number_that_is_named_is_the_fewest_that_show_it(least: float) -> None:
    (gate,) = judge({"rate": figure(15, 15)}, {"rate": Claim(at_least=least)}, 0.95)
    needed = int(told(gate, ()).split(" items without")[0].split()[-1])
    assert wilson(needed, needed, 0.95).low >= least > wilson(needed - 1, needed - 1, 0.95).low


@pytest.mark.parametrize(("right", "n", "least"), [(57, 60, 0.9), (95, 100, 0.93), (99, 100, 0.985)])
def test_so_is_the_number_at_a_rate(right: int, n: int, least: float) -> None:
    """Wilson's own interval turns there."""
    (gate,) = judge({"rate": figure(right, n)}, {"rate": Claim(at_least=least)}, 0.95)
    more = int(enough(gate).split(" items at this rate")[0])
    assert wilson(math.ceil(more * right / n), more, 0.95).low >= least > wilson(math.floor((more - 1) * right / n), more - 1, 0.95).low


def test_what_was_missed_is_named_and_the_rest_counted() -> None:
    missed = [f"item-{number}" for number in range(11)]
    (gate,) = judge({"rate": figure(49, 60, *missed)}, {"rate": Claim(at_least=0.9)}, 0.95)
    line = told(gate, missed)
    assert "rate: 0.8167 of 60" in line and "item-7 and 3 more" in line and "item-8" not in line


def test_all_gates_together() -> None:
    counts = {"a": (60, 60), "b": (15, 15), "c": (1, 15)}
    results = {name: judge({"rate": figure(*count)}, {"rate": Claim(at_least=0.9)}, 0.95)[0] for name, count in counts.items()}
    assert verdict([results["a"]]) == "pass" and verdict([]) == "inconclusive"
    assert verdict([results["a"], results["b"]]) == "inconclusive" and verdict(list(results.values())) == "fail"


def test_an_unknown_figure_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(UsageError, match="`speed`") as refused:
        check_known(("rate", "other"), ["speed"])
    assert "rate, other" in refused.value.remedy


def test_a_gate_may_claim_that_something_is_small() -> None:
    small = {"loss": Figure(Interval(0.02, 0.01, 0.03), 60, "cluster bootstrap")}
    ends = {at_most: judge(small, {"loss": Claim(at_most=at_most)}, 0.95)[0].verdict for at_most in (0.01, 0.025, 0.03)}
    assert ends == {0.01: "fail", 0.025: "inconclusive", 0.03: "pass"}


def test_too_few_items_are_never_a_pass() -> None:
    (gate,) = judge({"rate": figure(14, 14)}, {"rate": Claim(at_least=0.5)}, 0.95, least=15)
    assert gate.verdict == "inconclusive" and stops(gate) and told(gate, ()) == "rate: only 14 items were eligible"
    assert judge({"rate": figure(15, 15)}, {"rate": Claim(at_least=0.5)}, 0.95, least=15)[0].verdict == "pass"


def test_words_let_an_inconclusive_gate_ship_and_no_failed_one() -> None:
    claim = Claim(at_least=0.9, waived="a smoke of fifteen items shows no more")
    (open_, failed) = (judge({"rate": figure(right, 15)}, {"rate": claim}, 0.95)[0] for right in (15, 9))
    assert open_.waived and not stops(open_) and verdict([open_]) == "pass"
    assert failed.waived is None and stops(failed) and verdict([failed]) == "fail"


@pytest.mark.parametrize("claim", [{}, {"at_least": 0.5, "at_most": 0.5}, {"at_least": 0.5, "waived": "ok"}, {"at_leest": 0.5}])
def test_a_claim_says_one_thing(claim: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Claim.model_validate(claim)
