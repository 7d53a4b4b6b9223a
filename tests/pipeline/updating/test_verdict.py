"""The verdict: what a lock may change, and what it may not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.compat.results import Column, Result, Versions
from pipeline.updating.trial import Toy, Trial
from pipeline.updating.verdict import judged

VERSIONS = Versions("2.13.0", "3.11", "9.0", "2.3.5", "linux-x86_64")
CELLS = {
    "trace_fixed": Result("ok", 70.0, {"linear": 16, "cast": 3}),
    "trace_fp32": Result("ok", 149.0, {"linear": 16}),
    "export_range": Result("failed", note="RuntimeError: constraints"),
    "export_path": Result("refused", note="TypeError: no path"),
}
TOY = Toy({"decode logits": 71.0, "decode halt_logits": 64.0})


def trial(toy: Toy = TOY, seconds: float = 10.0, **cells: Result) -> Trial:
    return Trial(Column(VERSIONS, {**CELLS, **cells}), toy, {"probe": seconds, "toy": 30.0})


BEFORE = trial()


def subjects(after: Trial) -> list[str]:
    return [refusal.subject for refusal in judged(BEFORE, after).refusals]


def test_the_same_passes_and_speed_and_operations_are_told() -> None:
    more = replace(CELLS["trace_fixed"], operations={"linear": 16, "cast": 5, "silu": 1})
    found = judged(BEFORE, trial(seconds=15.0, trace_fixed=more))
    assert found.refusals == () and found.seconds == {"probe": (10.0, 15.0), "toy": (30.0, 30.0)}
    assert found.operations == {"trace_fixed": "+2 cast, +1 silu (19 → 22)"}
    assert found.db["case trace_fixed"] == (70.0, 70.0) and found.db["toy decode logits"] == (71.0, 71.0)


@pytest.mark.parametrize("status", ["failed", "wrong", "crashed", "hung", "refused"])
def test_a_case_that_worked_must_work(status: str) -> None:
    lost = Result(status, note="TypeError: only 0-dimensional arrays")  # type: ignore[arg-type]
    (refusal,) = judged(BEFORE, trial(trace_fixed=lost)).refusals
    assert refusal.subject == "case `trace_fixed`" and refusal.measured == f"{status}: TypeError: only 0-dimensional arrays"


def test_what_did_not_work_may_work_or_fail_in_another_way_but_not_compute_something_else() -> None:
    assert subjects(trial(export_range=Result("ok", 70.0), export_path=Result("ok", 70.0))) == []
    assert subjects(trial(export_range=Result("crashed", note="SIGSEGV"), export_path=Result("failed", note="OSError: x"))) == []
    assert subjects(trial(export_path=Result("wrong", note="`logits` reaches 3.0 dB"))) == ["case `export_path`"]
    assert subjects(trial(export_range=Result("wrong", note="`logits` reaches 3.0 dB"))) == ["case `export_range`"]


def test_three_db_may_be_lost_and_no_more() -> None:
    assert subjects(trial(trace_fixed=replace(CELLS["trace_fixed"], db=67.1))) == []
    assert subjects(trial(trace_fixed=replace(CELLS["trace_fixed"], db=66.9))) == ["case trace_fixed"]
    assert subjects(trial(toy=Toy({**TOY.db, "decode halt_logits": 60.9}))) == ["toy decode halt_logits"]


def test_where_nothing_is_rounded_noise_is_not_judged() -> None:
    assert subjects(trial(trace_fp32=replace(CELLS["trace_fp32"], db=120.0))) == []
    assert subjects(trial(trace_fp32=replace(CELLS["trace_fp32"], db=90.0))) == ["case trace_fp32"]


def test_the_toy_must_be_built_with_every_output() -> None:
    assert subjects(trial(toy=Toy(stopped="exit code 6: gate"))) == ["the recipe `random`"]
    assert subjects(trial(toy=Toy({"decode logits": 71.0}))) == ["toy `decode halt_logits`"]


def test_without_a_converter_the_toy_alone_is_judged() -> None:
    before, after = (replace(each, probe=None) for each in (BEFORE, trial(toy=Toy({**TOY.db, "decode logits": 20.0}))))
    assert [refusal.subject for refusal in judged(before, after).refusals] == ["toy decode logits"]
