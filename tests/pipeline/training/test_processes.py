"""Two processes that share each batch learn what one does, up to the order of sums."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tokenizers")
import torch
from fakes.datasets import made
from safetensors.torch import load_file
from torch._C._distributed_c10d import TCPStore

from interlock.errors import StageFailed, UsageError
from interlock.voice import SilentVoice
from pipeline.driver import stage
from pipeline.stages import train
from pipeline.training import torchrun, workers

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


@pytest.fixture(scope="module")
def shared(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(dataset, tmp_path_factory.mktemp("shared") / "checkpoint", processes=2)


def test_two_processes_are_one(dataset: Path, shared: Path, tmp_path: Path) -> None:
    """Adam divides by the square root of a mean square: where a gradient is near 0, a rounding decides about a whole step of the learning rate.
    Losses of all steps and nearly all weights agree to the rounding of sums over twenty rows."""
    alone = checkpoint(dataset, tmp_path / "alone")
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


def surroundings(port: int, rank: int, **more: str) -> dict[str, str]:
    """What `torchrun` tells a process."""
    told = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": workers.HOST, "MASTER_PORT": str(port)}
    return {**told, "TORCHELASTIC_USE_AGENT_STORE": "True", **more}


def test_a_process_of_torchrun_takes_the_part_of_one_that_a_training_starts(
    dataset: Path, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test is the agent with its store, and the stage of rank 0. The bytes are those of a training that started its own process."""
    agent = TCPStore(workers.HOST, 0, is_master=True, wait_for_workers=False)
    command = [sys.executable, "-m", "pipeline.run_distill", "a-recipe"]
    other = subprocess.Popen(command, env={**os.environ, **surroundings(agent.port, 1)})
    try:
        monkeypatch.setenv(torchrun.MEETING, f"{workers.HOST}:{agent.port}:0")
        made = checkpoint(dataset, tmp_path / "checkpoint", processes=2)
        assert other.wait(60) == 0
    finally:
        other.kill()
        other.wait()
    assert (made / "model.safetensors").read_bytes() == (shared / "model.safetensors").read_bytes()


def test_where_nothing_is_trained_the_others_end_with_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = TCPStore(workers.HOST, 0, is_master=True, wait_for_workers=False)
    for name, value in surroundings(agent.port, 1, TORCHELASTIC_RESTART_COUNT="3").items():
        monkeypatch.setenv(name, value)
    second = torchrun.place()
    assert second is not None and second.meeting == f"{workers.HOST}:{agent.port}:3" and not second.hosts
    codes: list[int] = []
    said: list[str] = []

    def follow(here: torchrun.Place) -> None:
        codes.append(torchrun.run(here, lambda _: 1, ["a-recipe"]))

    def verb(words: Sequence[str]) -> int:
        said.extend(words)
        return 0

    other = threading.Thread(target=follow, args=(second,))
    other.start()
    monkeypatch.setenv(torchrun.MEETING, "")  # so that what the first one sets is undone
    assert torchrun.run(torchrun.Place(0, 2, second.meeting, hosts=False), verb, ["a-recipe"]) == 0
    other.join(30)
    assert codes == [0] and said == ["a-recipe", "--set", "train.processes=2"]


def test_torchrun_on_several_machines_is_refused_and_alone_it_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in surroundings(1, 0, LOCAL_WORLD_SIZE="1").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=r"2 processes, 1 of them.*"):
        torchrun.place()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert torchrun.place() is None
    monkeypatch.delenv("RANK")
    assert torchrun.place() is None


def test_a_stage_that_finds_no_torchrun_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that was free a moment ago: nobody listens there."""
    port = TCPStore(workers.HOST, 0, is_master=True, wait_for_workers=False).port
    monkeypatch.setattr(torchrun, "PATIENCE_S", 0.5)
    monkeypatch.setenv(torchrun.MEETING, f"{workers.HOST}:{port}:0")
    with pytest.raises(StageFailed, match="do not answer"), workers.started("{}", 2):
        pass
