"""Two real processes of one training, over gloo: the test is rank 0, and this module, run as a script, is rank 1 and does the same.

Each scenario is a small training; its second process is told nothing but where the first listens and what to train.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fakes.trainings import data, settings, trained
from torch import Tensor
from torch import distributed as dist
from torch._C._distributed_c10d import TCPStore

from interlock.environments import ROOT
from pipeline.training.loop import Trace, fit
from pipeline.training.ranks import Ranks

HOST = "127.0.0.1"


class Killed(Exception):
    pass


def train(changes: Mapping[str, Any], folder: Path | None, ranks: Ranks, kill_at: int | None = None) -> tuple[dict[str, Tensor], Trace | None]:
    """The weights and the trace of one small training; None where it was ended after step `kill_at`."""
    chosen = settings(**changes)
    student = trained(chosen)

    def tell(line: dict[str, Any], tokens: int) -> None:
        if line["step"] == kill_at:
            raise Killed

    trace = None
    with contextlib.suppress(Killed):
        trace = fit(student, data(), chosen, folder, ranks, tell)
    return {name: one.detach().clone() for name, one in student.named_parameters()}, trace


Scenario = tuple[dict[str, Any], str, int | None]


def both(scenarios: Sequence[Scenario]) -> list[tuple[dict[str, Tensor], Trace | None]]:
    """What rank 0 of two made of each scenario: settings, a folder for states, the step to end at."""
    store = TCPStore(HOST, 0, is_master=True, wait_for_workers=False)
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests"))), "OMP_NUM_THREADS": "1"}
    other = subprocess.Popen([sys.executable, "-m", __name__, str(store.port), json.dumps(scenarios)], env=environ)
    try:
        with _joined(store, 0) as ranks:
            made = [train(changes, Path(folder), ranks, kill_at) for changes, folder, kill_at in scenarios]
        assert other.wait(60) == 0
        return made
    finally:
        other.kill()
        other.wait()


@contextlib.contextmanager
def _joined(store: TCPStore, rank: int) -> Iterator[Ranks]:
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    try:
        yield Ranks(rank, 2)
    finally:
        dist.destroy_process_group()


def main() -> None:
    port, scenarios = int(sys.argv[1]), json.loads(sys.argv[2])
    with _joined(TCPStore(HOST, port, is_master=False), 1) as ranks:
        for changes, folder, kill_at in scenarios:
            train(changes, Path(folder), ranks, kill_at)


if __name__ == "__main__":
    main()
