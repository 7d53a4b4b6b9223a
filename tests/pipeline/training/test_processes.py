"""Two processes that share each batch learn what one does, up to the order of sums."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tokenizers")
import torch
from fakes.datasets import made
from safetensors.torch import load_file

from interlock.errors import StageFailed
from interlock.voice import SilentVoice
from pipeline.driver import stage
from pipeline.stages import train
from pipeline.training import workers

pytestmark = pytest.mark.train

SMALL = {"d_model": 32, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "d_head": 16, "d_ff": 48, "vocab_size": 320, "halt_head": True}
SETTINGS = {"steps": 6, "batch": 10, "warmup": 2, "evaluate_every": 3, "save_every": 2, "latent": {"step_tokens": 2}}


def checkpoint(dataset: Path, out: Path, **changes: Any) -> Path:
    document = {"out": str(out), "toy": True, "dataset": str(dataset), "scratch": SMALL, "settings": {**SETTINGS, **changes}}
    stage.run(train.STAGE, train.Params.model_validate_json(json.dumps(document)), SilentVoice())
    return out


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "dataset"
    made(out, "permutation-automaton", train=400, validation=40, test=40, depths="1..3")
    return out


def test_two_processes_are_one(dataset: Path, tmp_path: Path) -> None:
    """Adam divides by the square root of a mean square: where a gradient is near 0, a rounding decides about a whole step of the learning rate.
    Losses of all steps and nearly all weights agree to the rounding of sums over twenty rows."""
    alone, shared = (checkpoint(dataset, tmp_path / f"{count}", processes=count) for count in (1, 2))
    logs = [[json.loads(line) for line in (one / train.LOG).read_text().splitlines()] for one in (alone, shared)]
    for one, other in zip(*logs, strict=True):
        assert one["total"] == pytest.approx(other["total"], rel=1e-4) and one["replaced"] == other["replaced"]
        assert one["norm"] == pytest.approx(other["norm"], rel=1e-3)
    weights, others = load_file(alone / "model.safetensors"), load_file(shared / "model.safetensors")
    far = torch.cat([(weight - others[name]).abs().flatten() for name, weight in weights.items()])
    assert (far > 1e-4).float().mean() < 0.01


def test_a_process_that_ends_early_ends_the_training(dataset: Path, tmp_path: Path) -> None:
    params = json.dumps({"out": str(tmp_path / "out"), "toy": True, "dataset": str(tmp_path / "nowhere"), "scratch": SMALL, "settings": SETTINGS})
    with pytest.raises(StageFailed, match="training processes"), workers.started(params, 2) as ranks:
        for _ in range(3):
            ranks.total({"ce": 1.0})
