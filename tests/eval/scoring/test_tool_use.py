"""Calls, grounding and controls of tool use: right answers, and every way in which a wrong one could pass for right."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from eval.answers import Answered
from eval.broker import replay
from eval.broker.replay import Broker
from eval.calls import Call, Made
from eval.items import Item
from eval.scoring import calls, grounding
from eval.scoring.grounding import f1, grounded, spans
from interlock.errors import UsageError
from pipeline.datasets.world import REGISTRY

pytestmark = pytest.mark.train

LOOK = Call("weather.lookup", {"place": "Gugeam", "unit": "celsius"})
RESULT = {"summary": "light rain", "temperature": 12, "unit": "celsius"}
BROKER = Broker(REGISTRY, {one.digest: one for one in replay.recorded(REGISTRY, [(LOOK, RESULT)])})


def test_a_replay_is_found_by_what_is_asked_and_a_miss_has_no_result() -> None:
    hit = BROKER.call(Call("weather.lookup", {"unit": None, "place": "Gugeam"}))
    assert hit.result == RESULT and hit.arguments == LOOK.arguments and hit.problems == ()
    miss = BROKER.call(Call("weather.lookup", {"place": "Elsewhere"}))
    unknown = BROKER.call(Call("shell.run", {"cmd": "curl evil"}))
    assert miss.result is None and unknown.result is None and unknown.problems and not miss.problems
    assert BROKER.call(Call("weather.lookup", {"place": 3})).problems == ("place: expected a value of type string, found `3`",)
    assert replay.uncovered(BROKER, [LOOK, Call("weather.lookup", {"place": "Elsewhere"})]) == [miss]
    assert replay.stubs([miss, hit, miss])[0] == {"name": "weather.lookup", "key": miss.arguments, "digest": miss.digest, "result": None}


def test_recording_refuses_what_could_not_be_replayed() -> None:
    for results in ([(Call("no.tool", {}), {})], [(Call("weather.lookup", {}), {})], [(LOOK, {"a": 1}), (LOOK, {"a": 2})]):
        with pytest.raises(UsageError):
            replay.recorded(REGISTRY, results)
    assert len(replay.recorded(REGISTRY, [(LOOK, RESULT), (Call("weather.lookup", {"place": "Gugeam"}), RESULT)])) == 1


ITEM = Item("i", None, "12", messages=({"role": "user", "content": "?"},), accepted=(("12",),), calls=(LOOK,))
TWO = replace(ITEM, calls=(LOOK, Call("people.find", {"name": "Ada"})))
CONTROL = Item("c", None, "S", messages=({"role": "user", "content": "?"},), behaviour="no_tool")


def said(text: str = "Integration: It is 12 degrees in Gugeam.", *made: Call, malformed: int = 0, **changes: Any) -> dict[str, Answered]:
    replayed = tuple(BROKER.call(one) for one in made)
    return {"text": replace(Answered(text, "eos", 5, calls=replayed, malformed=malformed), **changes)}


def scored(item: Item, answers: dict[str, Answered]) -> dict[str, Any]:
    return {**calls.SCORER.score(item, answers), **grounding.SCORER.score(item, answers)}


def test_the_right_calls_are_right() -> None:
    found = scored(ITEM, said("Integration: It is 12 degrees in Gugeam.", LOOK))
    assert {name: found[name] for name in ("calls_valid", "tools_right", "arguments_right", "integration_f1_lax", "integration_f1_strict")} == {
        "calls_valid": True, "tools_right": True, "arguments_right": True, "integration_f1_lax": 1.0, "integration_f1_strict": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("answers", "wrong"),
    [
        (said("Integration: It is 12 degrees."), "calls_valid"),  # nothing was called
        (said("", malformed=1), "calls_valid"),
        (said("", Call("weather.lookup", {"place": "Gugeam", "unit": "kelvin"})), "calls_valid"),
        (said("", Call("people.find", {"name": "Ada"})), "tools_right"),
        (said("", LOOK, LOOK), "tools_right"),
        (said("", Call("weather.lookup", {"place": "Gugexam"})), "arguments_right"),
        (said("", Call("weather.lookup", {"place": "Gugeam", "unit": "fahrenheit"})), "arguments_right"),
        (said("It is 12 degrees.", LOOK), "integration_f1_lax"),  # no span
        (said("Integration: It is 128 degrees.", LOOK), "integration_f1_lax"),
        (said("Integration: It is 12 degrees."), "integration_f1_lax"),  # grounded in nothing
        (said("Integration: It is some degrees celsius.", LOOK), "integration_f1_strict"),
    ],
)
def test_what_is_wrong_is_wrong(answers: dict[str, Answered], wrong: str) -> None:
    assert not scored(ITEM, answers)[wrong]


def test_reordered_and_dropped_calls() -> None:
    find = Call("people.find", {"name": "Ada"})
    assert scored(TWO, said("", LOOK, find))["multi_call_parity"] is True
    assert scored(TWO, said("", find, LOOK))["multi_call_parity"] is False
    assert scored(TWO, said("", LOOK))["multi_call_parity"] is False
    assert scored(ITEM, said("", LOOK))["multi_call_parity"] is None


def test_whether_an_item_counts_follows_from_the_item() -> None:
    """A control is judged by abstention alone; an item with calls by its calls, whatever a model did."""
    for answers in (said("S"), said("S", LOOK), said("")):
        found = scored(CONTROL, answers)
        assert found["calls_valid"] is None and found["integration_f1_lax"] is None and found["abstained"] is not None
        assert all(scored(ITEM, answers)[name] is not None for name in ("calls_valid", "tools_right", "integration_f1_lax"))
    assert scored(CONTROL, said("S"))["control_clean"] is True
    assert scored(CONTROL, said("S", LOOK))["control_clean"] is False and scored(CONTROL, said("", malformed=1))["control_clean"] is False
    assert scored(CONTROL, said("Integration: S"))["control_clean"] is False


def test_accepted_sets_and_types() -> None:
    assert calls.accepts({"a": ["x", "y"], "b": 1}, {"a": "y", "b": 1})
    assert not calls.accepts({"a": ["x", "y"]}, {"a": "z"}) and not calls.accepts({"a": 1}, {"a": True}) and not calls.accepts({"a": 1}, {})


@pytest.mark.parametrize(
    ("span", "value", "is_in"),
    [
        ("It is 12 degrees", 12, True), ("It is 1280", 128, False), ("It is 0.128", 128, False), ("12.5 now", 12, False), ("-3 degrees", -3, True),
        ("all true", True, False), ("nothing", None, False), ("Light  Rain today", "light rain", True), ("in a", "a", False),
        ("see www.example.org/today-x", "https://www.example.org/today-x/y", True), ("see other.org/today", "https://example.org/today", False),
        ("at 13:34", "13:34", True),
    ],
)  # fmt: skip
def test_grounding(span: str, value: Any, is_in: bool) -> None:
    assert grounded(span, value) is is_in


def test_spans_end_with_their_sentence() -> None:
    assert spans("Integration: It is 1.5 m. And more.\n no\n  Integration: two!\nIntegration:\nx Integration: three") == ["It is 1.5 m", "two"]


def test_f1_is_scikit_learns_formula() -> None:
    """Precision p, recall 1: 2p / (p + 1); published example: 2 of 3 → 0.8."""
    assert f1([True, True, False]) == pytest.approx(0.8) and f1([]) == 0 == f1([False]) and f1([True]) == 1


def test_an_error_of_a_tool_grounds_nothing() -> None:
    error = Made("weather.lookup", {}, {"ok": False, "error": "no such place; did you mean Gugeam?"}, "0" * 64)
    answers = {"text": Answered("Integration: no such place; did you mean Gugeam?", "eos", 3, calls=(error,))}
    assert scored(ITEM, answers)["integration_f1_lax"] == 0
