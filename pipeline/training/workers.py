"""The other processes of a training that has several: started, joined, ended.

Here: their start and end on this machine. Not here: those that somebody else has started (torchrun.py), sums over them (ranks.py), the training
(pipeline/stages/train.py). They speak gloo over
loopback, with the environment variables of `torchrun`; each is told the stage's parameters on its standard input, prepares the same rows and trains
the same student, and only the first rank, which is the stage's own process, writes.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

from torch import distributed as dist
from torch._C._distributed_c10d import Store, TCPStore

from interlock.errors import StageFailed
from interlock.voice import SilentVoice
from pipeline.training import torchrun
from pipeline.training.ranks import Ranks

HOST = "127.0.0.1"
_PATIENCE_S, _POLL_S = 60.0, 0.1


@contextlib.contextmanager
def started(params: str, count: int) -> Iterator[Ranks]:
    """This process as rank 0 of `count`; the others end with the block. Raises StageFailed where one of them did not end well.

    params: the stage's parameters in JSON.
    """
    if count == 1:
        yield Ranks()
        return
    if meeting := os.environ.get(torchrun.MEETING):
        with _met(meeting, params, count) as ranks:
            yield ranks
        return
    store = TCPStore(HOST, 0, is_master=True, wait_for_workers=False)
    others = [_start(params, rank, count, store.port) for rank in range(1, count)]
    try:
        _wait(store, others)
        yield _join(store, 0, count)
        _check([other.wait(_PATIENCE_S) for other in others])
    except RuntimeError:  # what gloo says where a peer is gone
        _check([other.poll() or 0 for other in others])
        raise
    finally:
        for other in others:
            other.kill()
            other.wait()
        if dist.is_initialized():
            dist.destroy_process_group()


@contextlib.contextmanager
def _met(meeting: str, params: str, count: int) -> Iterator[Ranks]:
    """Rank 0 of those that `torchrun` has started, and ends: where one of them fails it ends this process too."""
    try:
        store = torchrun.store_at(meeting)
    except RuntimeError as problem:
        remedy = "start torchrun and its recipe's stages on one machine, or without torchrun: interlock train RECIPE --set train.processes=N"
        raise StageFailed(f"the processes that torchrun started do not answer: {problem}", remedy=remedy) from None
    store.set(torchrun.WORK, params)
    try:
        yield _join(store, 0, count)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _wait(store: TCPStore, others: list[subprocess.Popen[bytes]]) -> None:
    """Until all have prepared: gloo itself would wait for ever for one that could not."""
    while not store.check([f"ready {rank}" for rank in range(1, len(others) + 1)]):
        _check([other.poll() or 0 for other in others])
        time.sleep(_POLL_S)


def _check(codes: list[int]) -> None:
    if any(codes):
        raise StageFailed(
            f"training processes ended with {', '.join(map(str, codes))}",
            remedy="see the lines above; the same command goes on from what was saved last",
        )


def _start(params: str, rank: int, count: int, port: int) -> subprocess.Popen[bytes]:
    told = {"RANK": str(rank), "WORLD_SIZE": str(count), "MASTER_PORT": str(port)}
    command = [sys.executable, "-I", "-m", __name__]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env={**os.environ, **told})
    assert other.stdin is not None
    other.stdin.write(params.encode())
    other.stdin.close()
    return other


def _join(store: Store, rank: int, count: int) -> Ranks:
    dist.init_process_group("gloo", store=store, rank=rank, world_size=count)
    return Ranks(rank, count)


def along(params: str, store: Store, rank: int, count: int) -> None:
    """Another rank: trains along and leaves nothing behind. params: the stage's, in JSON."""
    from pipeline.stages.train import Params, prepare, train

    known = Params.model_validate_json(params)
    ready = prepare(known, SilentVoice())
    store.set(f"ready {rank}", "")
    train(known, ready, _join(store, rank, count), SilentVoice())
    dist.destroy_process_group()


def main() -> int:
    """A rank that `started` has started."""
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = TCPStore(HOST, int(os.environ["MASTER_PORT"]), is_master=False)
    along(sys.stdin.read(), store, rank, count)
    return 0


if __name__ == "__main__":
    sys.exit(main())
