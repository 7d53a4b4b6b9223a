"""A training whose processes `torchrun` has started.

Here: what each of them does, and where they meet. Not here: processes that a training starts itself (workers.py).
The first is the verb `train` as ever, with as many `train.processes`, and the stage that it starts is rank 0. The others wait in torchrun's store
until that stage says what is trained, and train along; where nothing has to be trained they end with the first. If one of them fails, torchrun ends
them all.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from interlock.command import guarded
from interlock.errors import UsageError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

# Where a stage finds the others: the driver passes variables of this prefix on.
MEETING = "INTERLOCK_TORCHRUN"
# What is to be trained, as the stage's parameters in JSON; empty where nothing is.
WORK = "work"
_POLL_S, PATIENCE_S = 0.1, 60.0


@dataclass(frozen=True)
class Place:
    """This process is `rank` of `count`; `meeting` is HOST:PORT of the store and the number of the attempt. hosts: no agent has opened the store."""

    rank: int
    count: int
    meeting: str
    hosts: bool


def place() -> Place | None:
    """Where `torchrun` has put this process; None where it did not start it, or alone. Raises UsageError for processes on several machines."""
    told = os.environ
    if "RANK" not in told or int(told.get("WORLD_SIZE", "1")) == 1:
        return None
    rank, count = int(told["RANK"]), int(told["WORLD_SIZE"])
    if int(told.get("LOCAL_WORLD_SIZE", count)) != count:
        raise UsageError(
            f"torchrun started {count} processes, {told['LOCAL_WORLD_SIZE']} of them on this machine",
            remedy="train on one machine: torchrun --nnodes 1 --nproc-per-node N -m pipeline.run_distill RECIPE",
        )
    meeting = f"{told['MASTER_ADDR']}:{told['MASTER_PORT']}:{told.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    return Place(rank, count, meeting, rank == 0 and told.get("TORCHELASTIC_USE_AGENT_STORE") != "True")


def store_at(meeting: str, *, hosts: bool = False) -> Store:
    """The store of one attempt. Raises RuntimeError where nobody answers there."""
    from torch._C._distributed_c10d import PrefixStore, TCPStore

    address, _, attempt = meeting.rpartition(":")
    host, _, port = address.rpartition(":")
    store = TCPStore(host, int(port), is_master=hosts, wait_for_workers=False, timeout=timedelta(seconds=PATIENCE_S))
    return PrefixStore(f"interlock {attempt}", store)


def run(here: Place, verb: Callable[[Sequence[str]], int], words: Sequence[str]) -> int:
    """Do this process's part. verb: runs `train` with these words. Returns its exit code."""
    if here.rank:
        return guarded(lambda: _follow(here), json_output=False)
    store = store_at(here.meeting, hosts=here.hosts)
    os.environ[MEETING] = here.meeting
    code = verb([*words, "--set", f"train.processes={here.count}"])
    if not store.check([WORK]):
        store.set(WORK, "")
    return code


def _follow(here: Place) -> int:
    from pipeline.training import workers

    store = store_at(here.meeting)
    while not store.check([WORK]):  # not wait(): what comes before a training may take hours
        time.sleep(_POLL_S)
    if work := store.get(WORK).decode():
        workers.along(work, store, here.rank, here.count)
    return 0
