"""Asking a teacher about many rows: each answer on the disk before it counts, several questions at a time, and no more than a budget allows.

Here: the order of questions and what is kept. Not here: teachers, what becomes of the answers (pipeline/stages/teach.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from interlock.errors import StageFailed
from interlock.journal import Journal
from interlock.voice import Voice
from pipeline.datasets.rows import Row
from pipeline.training.teaching.answers import Answer, Teacher, key_of, to_record


@dataclass(frozen=True)
class Budget:
    """The most that one run may ask for: requests, and tokens of prompts and answers together. None: no limit."""

    requests: int | None = None
    tokens: int | None = None


@dataclass
class _Spent:
    requests: int = 0
    tokens: int = 0

    def over(self, budget: Budget) -> str | None:
        """Which limit is reached, in words."""
        if budget.requests is not None and self.requests >= budget.requests:
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
            journal.add(key, to_record(answer))
            spent.tokens += answer.tokens
            progress.advance()
            progress.note(f"{spent.tokens} tokens")

        (_one_by_one if teacher.at_once == 1 else _several)(missing, teacher, budget, spent, keep)
    if left := sum(key not in journal for key in missing):
        problem = f"the budget of {spent.over(budget)} is used up, and {len(asked) - left} of {len(asked)} answers are there"
        raise StageFailed(problem, remedy="run the same command again, with the same budget or another: it goes on from there")


Keep = Callable[[str, Answer], None]


def _one_by_one(rows: dict[str, Row], teacher: Teacher, budget: Budget, spent: _Spent, keep: Keep) -> None:
    """In this thread: a tensor library has threads of its own, and Ctrl-C comes here."""
    for key, row in rows.items():
        if spent.over(budget):
            return
        spent.requests += 1
        keep(key, teacher.ask(row))


def _several(rows: dict[str, Row], teacher: Teacher, budget: Budget, spent: _Spent, keep: Keep) -> None:
    """`at_once` questions on their way; answers are kept in the order of the rows. After a failure those on their way are waited for: they cost."""
    waiting: deque[tuple[str, Future[Answer]]] = deque()
    with ThreadPoolExecutor(teacher.at_once, "teacher") as pool:
        try:
            for key, row in rows.items():
                if spent.over(budget):
                    break
                spent.requests += 1
                waiting.append((key, pool.submit(teacher.ask, row)))
                if len(waiting) == teacher.at_once:
                    keep(waiting[0][0], waiting[0][1].result())
                    waiting.popleft()
            while waiting:
                keep(waiting[0][0], waiting[0][1].result())
                waiting.popleft()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            for key, future in waiting:
                if not future.cancelled() and future.exception() is None:
                    keep(key, future.result())
            raise
