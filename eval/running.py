"""Asking many items: each answer is on the disk before the next question, none is asked twice, and the order does not matter.

Here: which items are still to be asked, the journal, several processes at once. Not here: one question (asking), several machines (cluster.py), what
is made of the answers (scoring). A journal belongs to one `run_digest`, and each of its records names it.
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, Protocol

from eval import cluster, worker
from eval.answers import Answers, failed, from_record, record
from eval.asking import Ask, Settings
from eval.items import Item
from interlock.canonical import canonical_json
from interlock.errors import UsageError
from interlock.voice import Task

FAILED = "failed "
# Of a model's settings: where it lies, and how patiently it is asked.
ELSEWHERE = {"directory", "key_variable", "timeout_s", "retries", "plain_http"}


class Kept(Protocol):
    """Answers by the digest of their item: `interlock.journal.Journal`."""

    def __contains__(self, key: str) -> bool: ...

    def add(self, key: str, record: dict[str, Any]) -> None: ...

    def get(self, key: str) -> dict[str, Any]: ...


def run_digest(settings: Settings, digests: Sequence[str], program: str) -> str:
    """What an answer depends on beside its item: settings; digests of the models, of the dataset whose tools are replayed, of judges; of the program.
    Where directories lie is no part of it."""
    told = settings.model_dump(mode="json", exclude={"model": ELSEWHERE, "against": ELSEWHERE, "dataset": True, "judges": True})
    return hashlib.sha256(canonical_json([told, list(digests), program])).hexdigest()


def ask_all(items: Iterable[Item], settings: Settings, run: str, kept: Kept, jobs: int, task: Task) -> int:
    """Every item that has no answer yet, in `jobs` processes. Returns how many were asked.

    Raises what asking raises; what was answered until then is kept. torch is imported where a model is opened.
    """
    waiting = {item.digest: item for item in items if item.digest not in kept}
    jobs = min(jobs, len(waiting))
    if jobs == 1:
        from eval.asking.table import opened

        ask_here(waiting.values(), opened(settings), run, kept, task)
    elif jobs:
        _keep_all(_side_by_side(waiting, settings, jobs), run, kept, task)
    return len(waiting)


def ask_nodes(items: Iterable[Item], order: cluster.Order, address: str, kept: Kept, task: Task) -> int:
    """Every item that has no answer yet, by the nodes of a cluster (eval/cluster.py). Returns how many were asked; raises as `ask_all`."""
    waiting = {item.digest: item for item in items if item.digest not in kept}
    if waiting:
        _keep_all(cluster.answers(waiting.values(), order, address, task), order.run, kept, task)
    return len(waiting)


def ask_here(items: Iterable[Item], ask: Ask, run: str, kept: Kept, task: Task) -> None:
    """One item after another; each answer is kept before the next one is asked."""
    for item in items:
        task.note(item.id)
        _keep(kept, run, item.digest, record(ask(item)))
        task.advance()


def taken_over(records: Iterable[tuple[str, dict[str, Any]]], run: str, kept: Kept) -> int:
    """Answers that another process or machine wrote. Returns how many are new. Raises UsageError for those of another run: another model, other
    settings, another program."""
    new = 0
    for name, found in records:
        if found.get("run") != run:
            problem = f"`{name}` has answers of another run ({str(found.get('run'))[:12]}, not {run[:12]})"
            raise UsageError(problem, remedy="name files of the same model, suite, backend and version of interlock")
        key = found.pop("key")
        if key not in kept:
            kept.add(key, found)
            new += 1
    return new


def answers_of(items: Iterable[Item], kept: Kept) -> dict[str, Answers]:
    """The answers to all items by their ids: of one that failed each time, that. Raises KeyError for one that was not asked."""
    return {item.id: from_record(kept.get(item.digest if item.digest in kept else FAILED + item.digest)) for item in items}


def _keep(kept: Kept, run: str, digest: str, said: Mapping[str, Any]) -> None:
    """What failed is kept under another name: it is told, and asked again by the next run."""
    kept.add(FAILED + digest if failed(said) else digest, {"run": run, **said})


def _keep_all(answers: Generator[tuple[str, dict[str, Any]]], run: str, kept: Kept, task: Task) -> None:
    """Answers come in any order and are written here, one after another."""
    with contextlib.closing(answers):
        for digest, said in answers:
            _keep(kept, run, digest, said)
            task.advance()


def _side_by_side(waiting: Mapping[str, Item], settings: Settings, jobs: int) -> Generator[tuple[str, dict[str, Any]]]:
    """One thread speaks to each process."""
    left: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[str, dict[str, Any]] | BaseException] = queue.SimpleQueue()
    for item in waiting.values():
        left.put(item)
    for _ in range(jobs):
        left.put(None)
    stop = threading.Event()
    with worker.started(settings, jobs) as processes:
        threads = [threading.Thread(target=_feed, args=(one, left, done, stop), daemon=True) for one in processes]
        for thread in threads:
            thread.start()
        try:
            for _ in waiting:
                found = done.get()
                if isinstance(found, BaseException):
                    raise found
                yield found
        finally:
            stop.set()


Feed = Callable[[Item], dict[str, Any]]


def _feed(
    ask: Feed,
    left: queue.SimpleQueue[Item | None],
    done: queue.SimpleQueue[tuple[str, dict[str, Any]] | BaseException],
    stop: threading.Event,
) -> None:
    try:
        while not stop.is_set() and (item := left.get()) is not None:
            done.put((item.digest, ask(item)))
    except Exception as error:
        done.put(error)
