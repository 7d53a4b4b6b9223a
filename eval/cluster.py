"""Several machines answer items: Ray puts one question at a time to every free processor of a cluster that runs already.

Here: what travels to a node and back, and who may answer. Not here: which items are left, where answers are kept (running.py), starting a cluster
(`ray start`).
Before its first answer a process of a node reads the same directories and comes to the digest of the same run, or the evaluation stops: neither other
weights nor another version of interlock can answer in its name. What is lost with a process or a node is asked again on another. Ray is none of the
train environment's packages: it comes with extra `ray` of envs/train.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from eval.answers import record
from eval.asking import Ask, Settings
from eval.extras import require
from eval.items import Item, from_record
from interlock.errors import EnvironmentRefused, InterlockError, StageFailed, UsageError
from interlock.errors import from_dict as error_of
from interlock.voice import Task

AHEAD = 2  # questions per processor that are on their way, so that none waits for the next
LOST = 3  # times that an item is asked again because its process or its node was lost
REACH_S = 10.0  # for the head to accept a connection
COUNT_S = 2.0  # between two looks at how many processors there are
REMEDY = "see `ray status` there, then run the same command again: items that have an answer are not asked again"
Prepare = Callable[[], tuple[Settings, str]]
"""Called on a node, so it must be picklable: settings with the directories as they lie there, and the digest of the run that they amount to."""


@dataclass(frozen=True)
class Order:
    """What every process of the cluster is told. `run`: the digest that `prepare` must come to."""

    run: str
    prepare: Prepare


def answers(items: Iterable[Item], order: Order, address: str, task: Task) -> Generator[tuple[str, dict[str, Any]]]:
    """Each item's digest and the record of its answer, in the order in which they come. address: HOST:PORT of the cluster's head, or `auto` for the
    one on this machine.

    Raises EnvironmentRefused without Ray or with another Python than the cluster's, StageFailed for a cluster that cannot be reached, a node that
    would answer another run, and an item whose process was lost four times; and what asking raises.
    """
    require("ray", "`--ray`", "ray", "… --ray ADDRESS")
    import ray

    with _joined(address):
        ask = ray.remote(num_cpus=1, max_retries=LOST)(_answer)
        told, left = ray.put(order), iter(items)
        asked: dict[Any, Item] = {}
        processors, looked = 0, -COUNT_S
        while True:
            if time.monotonic() - looked >= COUNT_S:
                processors, looked = _processors(task), time.monotonic()
            for item in itertools.islice(left, max(0, AHEAD * processors - len(asked))):
                asked[ask.remote(told, item.record())] = item
            if not asked:
                return
            done, _ = ray.wait(list(asked), timeout=COUNT_S)
            for one in done:
                item = asked.pop(one)
                yield item.digest, _said(one, item)


def _processors(task: Task) -> int:
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    count = int(sum(node["Resources"].get("CPU", 0) for node in nodes))
    task.note(f"{count} processors of {len(nodes)} nodes")
    return max(1, count)


def _said(reference: Any, item: Item) -> dict[str, Any]:
    import ray
    from ray.exceptions import RayError

    try:
        said: dict[str, Any] = ray.get(reference)
    except RayError as error:
        raise StageFailed(f"item {item.id} got no answer from the cluster: {_line(error)}", remedy=REMEDY) from None
    if "error" in said:
        raise error_of(said)
    return said


@contextlib.contextmanager
def _joined(address: str) -> Iterator[None]:
    """A driver of the cluster. What it has asked ends with it."""
    # Ray would report its use to its makers, and pack up the project of a `uv run` for every node.
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_ENABLE_UV_RUN_RUNTIME_ENV="0")
    import ray

    ends = signal.getsignal(signal.SIGTERM)
    try:
        _reach(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except OSError as error:
        raise StageFailed(
            f"no Ray cluster at `{address}`: {_line(error)}",
            remedy="start one: `ray start --head` here, `ray start --address HOST:PORT` on each node",
        ) from None
    except RuntimeError as error:
        raise EnvironmentRefused(
            f"the cluster at `{address}` is not of this environment", required=_line(error), running="see above",
            remedy="start every node with `ray` of extra `ray` of envs/train",
        ) from None  # fmt: skip
    finally:
        signal.signal(signal.SIGTERM, ends)  # which Ray takes for itself
    try:
        yield
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Ray itself tries for minutes. Raises UsageError for what is no address, OSError where nothing listens."""
    host, _, port = address.rpartition(":")
    if address != "auto":
        if not host or not port.isdecimal() or int(port) > 65535:
            raise UsageError(f"--ray {address} is no address", remedy="give HOST:PORT of the cluster's head, or auto for the cluster of this machine")
        socket.create_connection((host, int(port)), REACH_S).close()


_OPENED: dict[str, Ask] = {}


def _answer(order: Order, item: dict[str, Any]) -> dict[str, Any]:
    """On a node, in one of its processes, which keeps the model for the next item."""
    try:
        if order.run not in _OPENED:
            _OPENED.clear()
            _OPENED[order.run] = _ready(order)
        return record(_OPENED[order.run](from_record(item)))
    except InterlockError as error:
        return error.as_dict()


def _ready(order: Order) -> Ask:
    from eval.asking.table import opened

    node = socket.gethostname()
    try:
        settings, run = order.prepare()
    except InterlockError as error:
        raise StageFailed(f"node `{node}` cannot answer: {error.problem}", remedy="let every node see the same files under the same paths") from None
    if run != order.run:
        raise StageFailed(
            f"node `{node}` would answer another run ({run[:12]}, not {order.run[:12]})",
            remedy="give every node the same version of interlock, and start Ray there from its clone",
        )
    return opened(settings)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
