"""A training that is killed at any step and started again makes the bytes of one that was not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tokenizers")
import torch
from fakes.trainings import LATENT, data, settings, trained
from torch import Tensor

from interlock.errors import ContractError, StageFailed
from pipeline.training import state
from pipeline.training.loop import Trace, fit
from pipeline.training.ranks import Ranks
from pipeline.training.settings import Settings

pytestmark = pytest.mark.train


class Killed(Exception):
    pass


def run(chosen: Settings, folder: Path | None, *, kill_at: int | None = None, **start: Any) -> tuple[dict[str, Tensor], Trace]:
    student = trained(chosen, **start)

    def tell(line: dict[str, Any], tokens: int) -> None:
        if line["step"] == kill_at:
            raise Killed

    trace = fit(student, data(), chosen, folder, Ranks(), tell)
    return {name: one.detach().clone() for name, one in student.named_parameters()}, trace


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(one, b[name]) for name, one in a.items())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ema": 0.9},
        {"patience": 3, "evaluate_every": 2},
        {"micro_batch": 3, "latent": {**LATENT, "schedule": "staged", "stages": 2, "mixed": 0.3}},
    ],
    ids=["plain", "average", "patience", "staged"],
)
def test_killed_at_every_step_it_ends_in_the_same_bytes(tmp_path: Path, changes: dict[str, Any]) -> None:
    chosen = settings(**changes)
    whole, trace = run(chosen, None)
    for kill_at in range(1, trace.steps + 1):
        folder = tmp_path / str(kill_at)
        with pytest.raises(Killed):
            run(chosen, folder, kill_at=kill_at)
        again, continued = run(chosen, folder)
        assert same(whole, again) and continued.log == trace.log, kill_at


@pytest.mark.parametrize(
    ("changes", "kills"), [({}, (4, 5, 8, 11, 11)), ({"ema": 0.5, "lora": {"rank": 2, "dropout": 0.3}}, (4, 8))], ids=["plain", "adapters"]
)
def test_killed_again_and_again(tmp_path: Path, changes: dict[str, Any], kills: tuple[int, ...]) -> None:
    chosen = settings(**changes)
    for kill_at in kills:
        with pytest.raises(Killed):
            run(chosen, tmp_path, kill_at=kill_at)
    assert same(run(chosen, None)[0], run(chosen, tmp_path)[0])


def test_the_same_seed_twice_is_the_same_and_another_is_not() -> None:
    assert same(run(settings(), None)[0], run(settings(), None)[0])
    assert not same(run(settings(), None)[0], run(settings(seed=1), None)[0])


def test_a_state_is_that_of_one_training_only(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(settings(), tmp_path, kill_at=8)
    for changes, start in (({"lr": 2e-3}, {}), ({}, {"seed": 2}), ({}, {"control": "pause"})):
        with pytest.raises(ContractError, match="these settings, rows and weights") as refused:
            run(settings(**changes), tmp_path, **start)
        assert "remove this folder" in refused.value.remedy


@pytest.mark.parametrize("damage", ["torn", "empty", "other"])
def test_a_damaged_state_is_refused_and_left_alone(tmp_path: Path, damage: str) -> None:
    with pytest.raises(Killed):
        run(settings(), tmp_path, kill_at=8)
    file = tmp_path / state.FILE
    whole = file.read_bytes()
    damaged = {"torn": whole[: len(whole) // 2], "empty": b"", "other": b"PK\x03\x04" + whole}[damage]
    file.write_bytes(damaged)
    with pytest.raises(ContractError, match="the state of a training"):
        run(settings(), tmp_path)
    assert file.read_bytes() == damaged


def test_a_loss_that_is_no_number_leaves_the_last_good_state(tmp_path: Path) -> None:
    """Weights are spoiled after step 7: step 8 ends the training, and the state of step 6 goes on as if nothing had been."""
    chosen, student = settings(), trained(settings())

    def spoil(line: dict[str, Any], tokens: int) -> None:
        if line["step"] == 7:
            with torch.no_grad():
                student.student.norm_f.weight[0] = float("nan")

    with pytest.raises(StageFailed, match=r"step 8.*: the loss is nan"):
        fit(student, data(), chosen, tmp_path, Ranks(), spoil)
    steps: list[int] = []
    again = trained(chosen)
    fit(again, data(), chosen, tmp_path, Ranks(), lambda line, tokens: steps.append(line["step"]))
    assert steps[0] == 7
    assert same(run(chosen, None)[0], {name: one.detach() for name, one in again.named_parameters()})


def test_patience_keeps_the_best_moment() -> None:
    """A learning rate that ruins the student: what is kept is what a training that ends at the best moment has. Without spans and with a constant
    rate nothing of a step depends on how many there will be."""
    ruin: dict[str, Any] = {"latent": None, "lr": 0.5, "warmup": 0, "schedule": "constant", "clip": 1e6, "evaluate_every": 1}
    kept, trace = run(settings(steps=40, patience=3, **ruin), None)
    losses = [line["validation"] for line in trace.log]
    best = losses.index(min(losses)) + 1
    assert trace.steps == best + 3 < 40
    assert same(kept, run(settings(steps=best, **ruin), None)[0])


def test_a_long_average_lags_behind_and_is_what_is_kept() -> None:
    start = {name: one.detach().clone() for name, one in trained(settings()).named_parameters()}
    last, _ = run(settings(), None)
    kept, _ = run(settings(ema=0.99), None)
    for name in ("student.norm_f.weight", "student.lm_head.weight"):
        assert 0 < (kept[name] - start[name]).norm() < (last[name] - start[name]).norm()


def test_the_log_has_every_step_and_evaluations_where_they_were_asked() -> None:
    _, trace = run(settings(), None)
    assert [line["step"] for line in trace.log] == list(range(1, 13))
    assert [line["step"] for line in trace.log if "validation" in line] == [5, 10, 12]
    assert all(set(line["by_slots"]) == {"0", "1", "2", "3"} for line in trace.log if "by_slots" in line)
