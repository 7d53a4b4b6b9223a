"""Many generations at once over one backend: sequences join and leave between steps, and long prompts are read in pieces between them.

Here: who is run when, on one thread that owns the backend. Not here: one generation (turn.py), what is kept of it (prefixes.py), requests
(runtime/serving).

A step of the loop is one `decode_many` of everybody who is given one input, then pieces of prompts in turn, some CHUNK ids together: whoever is
answering waits for one piece and not for a prompt. Pieces end at multiples of CHUNK whoever else runs, so that what is computed for a sequence does
not depend on the others. Who is alone may have drafts proven (lookup.py); beside others a further row costs as much as it could bring.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic

import numpy as np

from interlock.errors import InterlockError, StageFailed
from runtime.backends.protocol import Backend, CacheT, Copyable, Step, Vector
from runtime.engine.generate import drafts, prove
from runtime.engine.logprobs import Chosen, log_probabilities
from runtime.engine.lookup import Lookup
from runtime.engine.prefixes import LEAST, Prefixes, common
from runtime.engine.turn import Turn

# Products are at full speed from 128 rows on (facts of torch on these cores, runtime/backends/eager.py); more would only make the others wait longer.
CHUNK = 128
# Of a prompt whose tokens are scored, so many are read together: all their logits are in memory at once.
SCORED = 16


class QueueFull(InterlockError):
    """As many generations wait as may."""

    title = "busy"


@dataclass(frozen=True)
class Limits:
    """running: sequences that take turns; waiting: those that may wait for a place; kept_bytes: of caches that are kept for what comes later."""

    running: int = 8
    waiting: int = 64
    kept_bytes: int = 512 << 20


@dataclass(eq=False)
class Job(Generic[CacheT]):
    """A turn on its way. `told` is called by the scheduler's thread after each step of it, and when it is over: then `done` is set, and `error` says
    what went wrong, if something did. reused: ids of the prompt that were in a cache already. scores: how many of the likeliest tokens are told
    beside each of the prompt's after the first, in `scored`; None scores no prompt. Its cache is neither taken from another nor left to one: the same
    tokens read in other pieces differ in their last bits."""

    turn: Turn
    told: Callable[[Job[CacheT]], None]
    prompt: list[int]
    cache: CacheT | None = None
    reused: int = 0
    scores: int | None = None
    scored: list[Chosen] = field(default_factory=list)
    done: bool = False
    error: InterlockError | None = None
    # What was fed, as far as it is ids; whether a latent vector was; what is still to be fed of the turn's inputs; the last round that read a piece.
    fed: list[int] = field(default_factory=list)
    vectors: bool = False
    rest: list[int] | Vector = field(default_factory=list)
    round: int = 0
    cancelled: bool = False
    lookup: Lookup = field(init=False)

    def __post_init__(self) -> None:
        self.lookup = Lookup(self.turn.drafts)

    @property
    def single(self) -> bool:
        """Whether one input is next, of a sequence that has begun."""
        return self.cache is not None and self.cache.position > 0 and (isinstance(self.rest, np.ndarray) or len(self.rest) == 1)


class Scheduler(Generic[CacheT]):
    """Runs turns until it is closed."""

    def __init__(self, backend: Backend[CacheT], limits: Limits) -> None:
        self._backend, self._limits = backend, limits
        self._prefixes: Prefixes[CacheT] = Prefixes(limits.kept_bytes)
        self._waiting: deque[Job[CacheT]] = deque()
        self._running: list[Job[CacheT]] = []
        self._round = self._budget = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="scheduler", daemon=True)
        self._thread.start()

    def submit(self, turns: Sequence[tuple[Turn, Callable[[Job[CacheT]], None]]], scores: int | None = None) -> list[Job[CacheT]]:
        """All of these, each with its listener, or none. scores: of their prompts, as in `Job`. Raises QueueFull."""
        jobs = [Job(turn, told, prompt=list(turn.inputs), rest=turn.inputs, scores=scores) for turn, told in turns]
        with self._changed:
            self.check_room(len(jobs))
            self._waiting.extend(jobs)
            self._changed.notify()
        return jobs

    def check_room(self, count: int) -> None:
        """Raises QueueFull where `count` more could not even wait."""
        with self._changed:
            if self._closed:
                raise QueueFull("the server is stopping", remedy="ask again when it has started anew")
            free = self._limits.running - len(self._running)
            if len(self._waiting) + count > self._limits.waiting + max(0, free):
                raise QueueFull(f"{len(self._waiting)} generations wait already", remedy="ask again in a moment")

    def cancel(self, job: Job[CacheT]) -> None:
        """It is not run any further, and leaves nothing; `told` may be called once more. Of one that is over nothing changes."""
        with self._changed:
            job.cancelled = True
            if job in self._waiting:
                self._waiting.remove(job)
            self._changed.notify()

    def counts(self) -> tuple[int, int, int]:
        """How many run, how many wait, and the bytes of caches that are kept."""
        with self._changed:
            return len(self._running), len(self._waiting), self._prefixes.size_bytes

    def close(self) -> None:
        """End: what runs or waits is cancelled."""
        with self._changed:
            self._closed = True
            for job in [*self._running, *self._waiting]:
                job.cancelled = True
            self._waiting.clear()
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while self._admit():
            self._round += 1
            if single := [job for job in self._running if job.single]:
                self._guarded(single, self._decode_alone if len(self._running) == 1 else self._decode)
            self._read_prompts()

    def _admit(self) -> bool:
        """Who runs in this round; waits while nobody does. Whether to go on."""
        with self._changed:
            while True:
                for job in self._running:
                    job.cache = None if job.cancelled else job.cache
                self._running = [job for job in self._running if not (job.cancelled or job.done)]
                while self._waiting and len(self._running) < self._limits.running:
                    job = self._waiting.popleft()
                    job.round = self._round
                    self._running.append(job)
                if self._running or self._closed:
                    return not self._closed
                self._changed.wait()

    def _decode(self, *jobs: Job[CacheT]) -> None:
        inputs = [job.rest if isinstance(job.rest, np.ndarray) else job.rest[0] for job in jobs]
        steps = self._backend.decode_many(inputs, [job.cache for job in jobs if job.cache is not None])
        for job, inp, step in zip(jobs, inputs, steps, strict=True):
            job.vectors |= isinstance(inp, np.ndarray)
            if isinstance(inp, int) and not job.vectors:
                job.fed.append(inp)
            self._guarded([job], functools.partial(self._took, step=step))

    def _decode_alone(self, job: Job[CacheT]) -> None:
        assert job.cache is not None
        before = job.cache.position
        guessed = drafts(job.turn, job.lookup, self._backend.capacity - before - 1)
        if not guessed:
            self._decode(job)
            return
        fed = [*job.rest, *guessed]
        prove(self._backend, job.cache, job.turn, guessed)
        job.fed += [] if job.vectors else fed[: job.cache.position - before]
        self._after(job)

    def _read_prompts(self) -> None:
        """Pieces in turn, who waited longest first, until CHUNK ids were read."""
        self._budget = CHUNK
        for job in sorted((job for job in self._running if not (job.single or job.done)), key=lambda job: job.round):
            if self._budget > 0 and not job.cancelled:
                self._guarded([job], lambda job: self._read(job) if self._begun(job) else None)

    def _begun(self, job: Job[CacheT]) -> bool:
        """Whether it has a cache; the first time, one with as much of the prompt as can be had. It waits for whoever reads the same beginning."""
        if job.cache is not None:
            return True
        if job.scores is not None:
            job.cache = self._backend.new_cache()
            return True
        others = [other for other in self._running if other is not job and other.scores is None and isinstance(other.cache, Copyable)]
        best = max(others, key=lambda other: common(other.fed, job.prompt), default=None)
        shared = min(common(best.fed, job.prompt), len(job.prompt) - 1) if best else 0
        had = max(shared, self._prefixes.longest(job.prompt))
        coming = max((common(other.prompt, job.prompt) for other in others if not (other.single or other.done)), default=0)
        if coming - had >= LEAST and had < len(job.prompt) - 1:
            return False
        if best and shared >= LEAST and shared == had:
            assert isinstance(best.cache, Copyable)
            job.cache = best.cache.copy(shared)
        else:
            job.cache = self._prefixes.take(job.prompt) or self._backend.new_cache()
        job.reused = job.cache.position
        job.fed, job.rest = job.prompt[: job.reused], job.prompt[job.reused :]
        return True

    def _read(self, job: Job[CacheT]) -> None:
        assert isinstance(job.rest, list) and job.cache is not None
        size = min(len(job.rest), CHUNK - job.cache.position % CHUNK, CHUNK if job.scores is None else SCORED)
        job.round, self._budget = self._round, self._budget - size
        piece, job.rest = job.rest[:size], job.rest[size:]
        step = self._backend.prefill(piece, job.cache) if job.scores is None else self._scored(job, piece)
        job.fed += [] if job.vectors else piece
        if not job.rest:
            self._took(job, step)

    def _scored(self, job: Job[CacheT], piece: Sequence[int]) -> Step:
        """Read a piece of a prompt and keep what the model thinks of each token that follows in the prompt."""
        assert job.cache is not None and job.scores is not None
        first = job.cache.position
        steps = self._backend.score(piece, job.cache)
        for step, token in zip(steps, job.prompt[first + 1 :], strict=False):
            job.scored.append(Chosen.of(log_probabilities(step.logits), token, job.scores))
        return steps[-1]

    def _took(self, job: Job[CacheT], step: Step) -> None:
        """The step after the turn's inputs."""
        job.turn.take(step)
        self._after(job)

    def _after(self, job: Job[CacheT]) -> None:
        """What is next, or the end."""
        job.rest = job.turn.inputs if isinstance(job.turn.inputs, np.ndarray) else list(job.turn.inputs)
        if job.turn.reason is not None and job.cache is not None and not job.cancelled:
            if job.scores is None:
                self._prefixes.keep(job.fed, job.cache)
            job.done, job.cache = True, None
        if not job.cancelled:
            job.told(job)

    def _guarded(self, jobs: Sequence[Job[CacheT]], work: Callable[..., None]) -> None:
        """Do it; what goes wrong ends these jobs and no others."""
        try:
            work(*jobs)
        except Exception as problem:  # one request's mistake, or a bug: the server goes on
            if not isinstance(problem, InterlockError):
                traceback.print_exc()
            for job in jobs:
                job.error = (
                    problem if isinstance(problem, InterlockError) else StageFailed("the model could not be run", remedy="see the server's log")
                )
                job.done, job.cache = True, None
                with contextlib.suppress(Exception):  # it may be the listener that failed
                    job.told(job)
