"""What a training tells: every step once, about once a second, with rates that a stopwatch would give."""

from __future__ import annotations

import json
from typing import Any

import pytest

from interlock.voice import SilentVoice
from pipeline.training.told import Told, duration, losses_of, progress_text, told
from pipeline.training.watching import Watcher

# The same in both environments: once is enough.
pytestmark = pytest.mark.train


class Listener(SilentVoice):
    """Keeps what it is told; figures as they arrive on the other side of a pipe."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.told: list[Told] = []

    def step(self, text: str) -> None:
        self.steps.append(text)

    def figures(self, figures: dict[str, Any]) -> None:
        found = told(json.loads(json.dumps(figures)))
        assert found is not None
        self.told.append(found)

    def advance(self, amount: float = 1) -> None: ...

    def note(self, text: str) -> None: ...


def line(step: int, **more: Any) -> dict[str, Any]:
    return {"step": step, "lr": 1e-3, "replaced": 0, "total": 2.0 * step, "norm": 1.0, "losses": {"ce": 1.0 * step}} | more


def watched(seconds_a_step: float, lines: list[dict[str, Any]], steps: int, after: int = 0) -> Listener:
    listener, now = Listener(), [100.0]
    watcher = Watcher(listener, listener, "student", steps, after, clock=lambda: now[0])
    for one in lines:
        now[0] += seconds_a_step
        watcher(one, 50)
    return listener


@pytest.mark.parametrize(("seconds", "most"), [(0.01, 3), (0.4, 40), (5.0, 100)])
def test_every_step_is_told_once_and_not_oftener_than_each_second(seconds: float, most: int) -> None:
    heard = watched(seconds, [line(step) for step in range(1, 101)], 100)
    assert [one.step for news in heard.told for one in news.lines] == list(range(1, 101))
    assert len(heard.told) <= most


def test_rates_are_those_of_the_steps_after_the_first() -> None:
    """50 tokens in each step of half a second; the first, which warms up, counts for nothing. Two runs as long follow."""
    heard = watched(0.5, [line(step) for step in range(1, 11)], 10, after=2)
    first, last = heard.told[0], heard.told[-1]
    assert first.now.step == 2 and (last.tokens_per_s, last.steps_per_s, last.left_s) == (100.0, 2.0, 10.0)
    assert last.memory_bytes > 1 << 20


def test_a_resumed_run_counts_its_own_steps_only() -> None:
    heard = watched(2.0, [line(step) for step in range(501, 505)], 504)
    assert heard.told[0].steps_per_s is None, "one step alone has no rate"
    assert heard.told[-1].steps_per_s == 0.5 and heard.told[-1].left_s == 0.0


def test_an_evaluation_is_told_at_once_and_said_in_words() -> None:
    evaluated = {
        "validation": 1.5, "by_slots": {"0": 1.0, "1": 2.0}, "accuracy": {"text": {"1": 0.25}, "spans": {"1": 1.0}},
        "samples": [{"id": "r7", "way": "text", "said": " o1 s\x1b[2J", "wanted": " s3", "right": False}],
    }  # fmt: skip
    heard = watched(0.01, [line(1), line(2, **evaluated), line(3)], 99)
    assert [news.now.step for news in heard.told] == [2]
    assert "step 2 of 99" in heard.steps[0] and "validation loss 1.500 (by slots 1.000 2.000); text right 0.25; spans right 1.00" in heard.steps[0]
    assert heard.steps[1] == "sample r7, text: ' o1 s\\x1b[2J' is not ' s3'"


def test_losses_are_means_over_the_steps_that_have_them() -> None:
    heard = watched(0.001, [line(1), line(2, losses={"ce": 4.0, "halt": 0.5}), line(3, validation=1.0)], 9)
    assert losses_of(heard.told[0].lines) == {"loss": 4.0, "ce": pytest.approx(8 / 3), "halt": 0.5}
    assert progress_text(heard.told[0]).startswith("step 3 of 9, loss 4.000 (ce 2.667, halt 0.500)")


@pytest.mark.parametrize("wrong", [{}, {"run": "student"}, {"run": 1, "steps": 2, "lines": []}, {"lines": "x"}])
def test_figures_of_others_are_no_news(wrong: dict[str, Any]) -> None:
    assert told(wrong) is None
    whole = {"run": "student", "steps": 3, "lines": [], "tokens_per_s": None, "steps_per_s": None, "left_s": None, "memory_bytes": 1}
    assert told(whole) is None and told(whole | {"lines": [line(1)]}) is not None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (5999, "1 h 40 min"), (11_100, "3 h 05 min"), (36_000, "10 h 00 min")]
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text
