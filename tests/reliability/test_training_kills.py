"""A training that is killed at random moments goes on where it was saved, and ends in the same bytes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.long, pytest.mark.train]
Score = Callable[[str, int, int], None]

RECIPE = """
output = "out"
outputs = ["checkpoint"]
toy = true

[data]
task = "permutation-automaton"
parameters = { train = 2000, validation = 60, test = 60, depths = "1..3" }

[train]
steps = 60
evaluate_every = 20
save_every = 1

[train.scratch]
d_model = 32
n_heads = 2
n_kv_heads = 1
d_head = 16
d_ff = 48
vocab_size = 320
halt_head = true

[train.latent]
step_tokens = 3

[convert]
enabled = false
"""


ADAPTERS = """
[train.lora]
rank = 4
dropout = 0.2
"""


class Training:
    """A folder with the recipe and its own store."""

    def __init__(self, folder: Path, more: str = "") -> None:
        folder.mkdir()
        self.folder = folder
        (folder / "mine.toml").write_text(RECIPE + more)
        self.environ = {**os.environ, "INTERLOCK_HOME": str(folder / ".interlock"), "OMP_NUM_THREADS": "1"}
        self.argv = [sys.executable, "-I", "-m", "pipeline.here", "build", "mine.toml", "--only", "train", "--launcher", "current", "--json"]

    def run(self) -> str:
        """The digest of what the plain command makes."""
        ended = subprocess.run(self.argv, cwd=self.folder, env=self.environ, capture_output=True, text=True, check=False, timeout=600)
        assert ended.returncode == 0, ended.stderr[-2000:]
        return str(next(step["digest"] for step in json.loads(ended.stdout)["steps"] if step["step"] == "train"))

    def saved(self) -> list[Path]:
        return list(self.folder.glob(".interlock/store/state/*/student/training_state.safetensors"))

    def kill(self, draw: random.Random) -> bool:
        """Kill the process group some moments after the training has saved something; False where it was through before."""
        process = subprocess.Popen(
            self.argv, cwd=self.folder, env=self.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        before = {path: path.stat().st_mtime_ns for path in self.saved()}
        while process.poll() is None and all(before.get(path) == path.stat().st_mtime_ns for path in self.saved()):
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 0.3))
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait(60) < 0


def test_killed_trainings_end_in_the_same_bytes(tmp_path: Path, extent: bool, score: Score) -> None:
    wanted = 20 if extent else 1
    ways = ("", ADAPTERS)[:wanted]
    whole = [Training(tmp_path / f"whole-{number}", more).run() for number, more in enumerate(ways)]
    draw = random.Random(5)
    killed, bad = 0, []
    for number in range(wanted):
        way = number % len(ways)
        one = Training(tmp_path / f"killed-{number}", ways[way])
        kills = sum(one.kill(draw) for _ in range(draw.randint(1, 3)))
        killed += kills > 0
        if one.run() != whole[way] or one.saved():
            bad.append(number)
    score("kills", killed - len(bad), killed)
    assert not bad and killed == wanted
