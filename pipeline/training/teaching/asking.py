"""Asking a teacher about many rows: each answer on the disk before it counts, several questions at a time, and no more than a budget allows.

Here: the order of questions and what is kept. Not here: teachers, what becomes of the answers (pipeline/stages/teach.py).
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from interlock.errors import StageFailed
from interlock.journal import Journal
from interlock.voice import Voice
from pipeline.datasets.rows import Row
from pipeline.training.teaching.answers import Answer, Teacher, key_of, to_record


@dataclass(frozen=True)
class Budget:
    """The most that one run may ask for: questions, and tokens of prompts and answers together. None: no limit. Tokens are known when they have come:
    the answers that were on their way then are beyond it."""

    requests: int | None = None
    tokens: int | None = None


@dataclass
class _Spent:
    requests: int = 0
    tokens: int = 0

    def over(self, budget: Budget, more: int) -> str | None:
        """Which limit so many more questions would pass, in words; a first batch is always asked, so that every run comes further."""
        if budget.requests is not None and self.requests and self.requests + more > budget.requests:
            return f"{budget.requests} requests"
        if budget.tokens is not None and self.tokens >= budget.tokens:
            return f"{budget.tokens} tokens"
        return None


def ask_all(rows: Iterable[Row], teacher: Teacher, journal: Journal, budget: Budget, voice: Voice) -> None:
    """Afterwards the journal has an answer for every row. What it has already is not asked again.

    Raises what the teacher raises, and StageFailed where the budget is used up; answers that came before are kept in every case, Ctrl-C included.
    """
    asked = {key_of(row): row for row in rows}
    missing = {key: row for key, row in asked.items() if key not in journal}
    spent = _Spent()
    with voice.task(f"ask {teacher.name}", len(asked), "answers") as progress:
        progress.advance(len(asked) - len(missing))

        def keep(key: str, answer: Answer) -> None:
            if key in journal:
                return
            journal.add(key, to_record(answer))
            spent.tokens += answer.tokens
            progress.advance()
            progress.note(f"{spent.tokens} tokens")

        batches = _batches(asked, journal, min(teacher.batch, budget.requests or teacher.batch))
        (_one_by_one if teacher.at_once == 1 else _several)(batches, teacher, budget, spent, keep)
    if left := sum(key not in journal for key in missing):
        problem = f"the budget of {spent.over(budget, len(missing))} is used up, and {len(asked) - left} of {len(asked)} answers are there"
        raise StageFailed(problem, remedy="run the same command again, with the same budget or another: it goes on from there")


Keep = Callable[[str, Answer], None]
Batch = tuple[tuple[str, Row], ...]


def _batches(rows: dict[str, Row], journal: Journal, size: int) -> Iterator[Batch]:
    """Batches with a row that has no answer, cut at the same places whatever is there: logits of a row differ in their last bits in other company,
    and a run that goes on shall end with the bytes of one that was never stopped."""
    everything = iter(rows.items())
    while batch := tuple(itertools.islice(everything, size)):
        if any(key not in journal for key, _ in batch):
            yield batch


def _one_by_one(batches: Iterable[Batch], teacher: Teacher, budget: Budget, spent: _Spent, keep: Keep) -> None:
    """In this thread: a tensor library has threads of its own, and Ctrl-C comes here."""
    for batch in batches:
        if spent.over(budget, len(batch)):
            return
        spent.requests += len(batch)
        for (key, _), answer in zip(batch, teacher.ask([row for _, row in batch]), strict=True):
            keep(key, answer)


def _several(batches: Iterable[Batch], teacher: Teacher, budget: Budget, spent: _Spent, keep: Keep) -> None:
    """`at_once` questions on their way; answers are kept in the order of the rows. After a failure those on their way are waited for: they cost."""
    waiting: deque[tuple[str, Future[list[Answer]]]] = deque()
    with ThreadPoolExecutor(teacher.at_once, "teacher") as pool:
        try:
            for ((key, row),) in batches:
                if spent.over(budget, 1):
                    break
                spent.requests += 1
                waiting.append((key, pool.submit(teacher.ask, [row])))
                if len(waiting) == teacher.at_once:
                    _keep_first(waiting, keep)
            while waiting:
                _keep_first(waiting, keep)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            for key, future in waiting:
                if not future.cancelled() and future.exception() is None:
                    keep(key, *future.result())
            raise


def _keep_first(waiting: deque[tuple[str, Future[list[Answer]]]], keep: Keep) -> None:
    key, future = waiting[0]
    keep(key, *future.result())
    waiting.popleft()
