"""Two processes that each keep a share of the weights learn what one does, and go on from the same file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tokenizers")
import torch
from fakes.rank_pairs import both, train
from fakes.trainings import settings
from pydantic import ValidationError
from safetensors import safe_open
from torch import Tensor

from pipeline.training import state
from pipeline.training.loop import Trace
from pipeline.training.ranks import Ranks

pytestmark = pytest.mark.train

SHARED = {"processes": 2, "sharded": True}
WAYS: dict[str, dict[str, Any]] = {
    # five rows for two processes, one at a time: three micro batches here, two and a silent one there; an average is what is kept
    "uneven": {"batch": 5, "micro_batch": 1, "ema": 0.5, "steps": 5, "save_every": 2, "evaluate_every": 5},
    # frozen weights and trained ones in one layer, which backward computes again; the best moment is what is kept
    "adapters": {
        "batch": 6, "recompute": True, "patience": 5, "steps": 4, "evaluate_every": 2,
        "lora": {"rank": 2, "targets": ["attn"], "whole": ["halt_head"]},
    },
}  # fmt: skip
Made = tuple[dict[str, Tensor], Trace]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the trainings save, a folder for each."""
    return tmp_path_factory.mktemp("states")


@pytest.fixture(scope="module")
def made(folder: Path) -> dict[str, Made]:
    """Each way in two processes; `again`: the first one ended after step 3 and started anew."""
    runs = [(name, way, None) for name, way in WAYS.items()] + [("again", WAYS["uneven"], 3), ("again", WAYS["uneven"], None)]
    found = both([({**way, **SHARED}, str(folder / name), kill_at) for name, way, kill_at in runs])
    assert [trace is None for _, trace in found] == [False, False, True, False]
    return {name: (weights, trace) for (name, *_), (weights, trace) in zip(runs, found, strict=True) if trace is not None}


@pytest.mark.parametrize("way", WAYS)
def test_two_processes_with_shares_are_one_without(made: dict[str, Made], folder: Path, way: str) -> None:
    """As of processes that each have all weights (test_processes.py): losses to the rounding of sums, and nearly all weights, for where a gradient is
    near 0 Adam lets a rounding decide about a whole step. What is saved has the same tensors."""
    shared, trace = made[way]
    alone, expected = train(WAYS[way], folder / f"{way} alone", Ranks())
    assert expected is not None and shared.keys() == alone.keys()
    for one, other in zip(trace.log, expected.log, strict=True):
        assert one["total"] == pytest.approx(other["total"], rel=1e-4) and one["replaced"] == other["replaced"]
        assert one["norm"] == pytest.approx(other["norm"], rel=1e-3) and one.keys() == other.keys()
        assert one.get("validation", 0.0) == pytest.approx(other.get("validation", 0.0), rel=1e-3)
    far = torch.cat([(weight - alone[name]).abs().flatten() for name, weight in shared.items()])
    assert (far > 1e-4).float().mean() < 0.01
    assert shapes(folder / way) == shapes(folder / f"{way} alone")


def shapes(folder: Path) -> dict[str, list[int]]:
    """Of the tensors that a training has saved; none where it saves nothing before its end."""
    if not (folder / state.FILE).exists():
        return {}
    with safe_open(str(folder / state.FILE), framework="pt") as file:
        return {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - not a mapping


def test_a_training_in_shares_goes_on_to_the_same_bytes(made: dict[str, Made], folder: Path) -> None:
    (whole, trace), (again, continued) = made["uneven"], made["again"]
    assert continued.log == trace.log and all(torch.equal(one, again[name]) for name, one in whole.items())
    assert any(name.startswith("average.") for name in shapes(folder / "again"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sharded": True}, "there is one: give `processes`"),
        *(({**SHARED, **other}, "give one of") for other in ({"quantization": {"method": "int4"}}, {"code_mode": {}})),
    ],
)
def test_shares_that_make_no_sense_are_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        settings(**changes)
