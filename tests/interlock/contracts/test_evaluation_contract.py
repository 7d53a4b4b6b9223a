"""A verdict is what follows from the interval, and never more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.artifacts import resealed, write_evaluation
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from interlock.contracts import evaluation, io
from interlock.errors import ContractError

GATE = {
    "name": "g", "metric": "m", "claim": "at least", "threshold": 0.9, "measured": 0.95, "low": 0.92, "high": 0.98, "confidence": 0.95,
    "method": "wilson", "n": 60, "verdict": "pass",
}  # fmt: skip


def gate(**changes: Any) -> evaluation.GateResult:
    return evaluation.GateResult(**(GATE | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"claim": "at most", "threshold": 0.99}, {"threshold": 0.94, "verdict": "inconclusive"}, {"threshold": 0.96, "verdict": "fail"},
        {"threshold": 0.96, "verdict": "inconclusive"}, {"threshold": 0.99, "verdict": "fail"}, {"claim": "at most", "verdict": "fail"},
        {"measured": None, "low": None, "high": None, "n": 0, "verdict": "inconclusive"}, {"low": None, "verdict": "inconclusive"},
        {"threshold": 0.94, "verdict": "inconclusive", "waived": "60 items cannot show it"},
    ],
)  # fmt: skip
def test_a_gate_that_says_what_its_interval_shows(changes: dict[str, Any]) -> None:
    assert gate(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": 0.93}, {"threshold": 0.99}, {"verdict": "fail"}, {"verdict": "inconclusive"}, {"claim": "at most"}, {"n": 0}, {"low": None},
        {"measured": 0.99}, {"low": 0.97}, {"measured": None, "verdict": "fail"}, {"waived": "because"}, {"confidence": 1.0}, {"n": -1},
        {"threshold": float("nan")}, {"verdict": "skipped"}, {"method": "eye"},
    ],
)  # fmt: skip
def test_a_gate_that_says_another_thing_than_its_interval(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        gate(**changes)


@given(low=st.floats(0, 1), span=st.floats(0, 1), threshold=st.floats(0, 1), claim=st.sampled_from(["at least", "at most"]), share=st.floats(0, 1))
def test_of_three_verdicts_pass_fits_only_an_interval_on_the_right_side(low: float, span: float, threshold: float, claim: str, share: float) -> None:
    high = low + span
    values = {"low": low, "high": high, "measured": min(high, low + share * span), "threshold": threshold, "claim": claim}

    def fits(verdict: str) -> bool:
        try:
            return bool(gate(**values, verdict=verdict))
        except ValidationError:
            return False

    shown = low >= threshold if claim == "at least" else high <= threshold
    assert fits("pass") == shown and fits("inconclusive") == (not shown)
    assert not (fits("fail") and shown)


FAILED = GATE | {"threshold": 0.99, "verdict": "fail"}
OPEN = GATE | {"threshold": 0.94, "verdict": "inconclusive"}


@pytest.mark.parametrize(
    ("gates", "verdict"),
    [
        ([GATE], "pass"),
        ([GATE, OPEN | {"waived": "as the recipe says"}], "pass"),
        ([GATE, OPEN], "inconclusive"),
        ([OPEN, FAILED], "fail"),
        ([], "inconclusive"),
    ],
)
def test_the_verdict_of_the_whole_follows_from_the_gates(tmp_path: Path, gates: list[dict[str, Any]], verdict: str) -> None:
    document = json.loads(io.pretty(write_evaluation(tmp_path)))
    for told in ("pass", "fail", "inconclusive"):
        (tmp_path / evaluation.FILE).write_text(json.dumps(resealed(document | {"gates": gates, "verdict": told})))
        if told == verdict:
            assert io.read_artifact(tmp_path, evaluation.EvaluationContract).verdict == verdict
        else:
            with pytest.raises(ContractError, match="follows from the gates"):
                io.read_artifact(tmp_path, evaluation.EvaluationContract)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"subject": {"kind": "foreign", "name": "x", "digest": "0" * 64}}, "has a digest"), ({"inputs": []}, "not in inputs"),
        ({"subject": {"kind": "deployment", "name": "x", "digest": None}}, "has a digest"), ({"items": 0}, "greater than or equal to 1"),
        ({"subject": {"kind": "deployment", "name": "x", "digest": "7" * 64}}, "not in inputs"), ({"runner": "mock"}, "orchestrator"),
    ],
)  # fmt: skip
def test_an_evaluation_that_contradicts_itself_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    document = json.loads(io.pretty(write_evaluation(tmp_path)))
    (tmp_path / evaluation.FILE).write_text(json.dumps(resealed(document | changes)))
    with pytest.raises(ContractError, match=said):
        io.read_artifact(tmp_path, evaluation.EvaluationContract)
