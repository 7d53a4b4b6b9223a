"""One request's generations: from what was asked to turns of the scheduler, and what they say back to the event loop.

Here: the seam between the scheduler's thread and the server's. Not here: HTTP (app.py), documents (answers.py).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from interlock.errors import InterlockError
from runtime.engine.logprobs import Chosen
from runtime.engine.sampling import SamplingParams
from runtime.engine.scheduler import Job, Scheduler
from runtime.engine.tokenizer import Tokenizer
from runtime.engine.turn import GenerationParams, Reason, Turn
from runtime.load import Loaded
from runtime.orchestration.judges.verdict import Judge
from runtime.orchestration.refine import Rules
from runtime.serving.answers import Finished
from runtime.serving.refusals import Refused
from runtime.serving.requests import ChatRequest, CompletionRequest


@dataclass(frozen=True)
class Model:
    """What is served, under which name, and how it is run unless a request says otherwise. rules, judge: of answers that are to be refined."""

    name: str
    loaded: Loaded
    defaults: GenerationParams
    rules: Rules
    judge: Judge | None = None


@dataclass(frozen=True)
class Event:
    """Something new of a choice. state: latent slots so far and the halt head's last probability; reason: why it is over, with that it is."""

    index: int
    text: str
    logprobs: tuple[Chosen, ...]
    state: tuple[int, float | None]
    reason: Reason | None


def params_of(defaults: GenerationParams, asked: ChatRequest | CompletionRequest, choice: int) -> GenerationParams:
    """How one of the choices is generated: each has a seed of its own, counted up from the request's. Raises UsageError."""
    seed = secrets.randbits(31) if asked.seed is None else asked.seed + choice
    temperature = defaults.sampling.temperature if asked.temperature is None else asked.temperature
    sampling = SamplingParams(temperature, asked.top_k, asked.top_p, asked.min_p, asked.repetition_penalty, seed)
    limit = asked.limit or defaults.max_new_tokens
    return replace(defaults, sampling=sampling, max_new_tokens=limit, stop=asked.stops, logprobs=asked.told)


class Run:
    """The choices of a request on their way, in the order prompt by prompt. Leaving the context cancels what still runs."""

    def __init__(
        self,
        model: Model,
        scheduler: Scheduler[Any],
        prompts: Sequence[Sequence[int]],
        asked: ChatRequest | CompletionRequest,
        defaults: GenerationParams,
        seconds: float,
    ) -> None:
        """defaults: the model's, with what holds an answer to a form; seconds: the most that it may take.

        Raises UsageError for what cannot be generated, QueueFull."""
        self._scheduler, self._seconds = scheduler, seconds
        self._news: asyncio.Queue[Event | InterlockError] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        self._deadline = loop.time() + seconds
        capacity, tokenizer = model.loaded.backend.capacity, model.loaded.tokenizer

        def tell(news: Event | InterlockError) -> None:
            loop.call_soon_threadsafe(self._news.put_nowait, news)

        self._choices = []
        for number, ids in enumerate(ids for ids in prompts for _ in range(asked.n)):
            pieces: list[str] = []
            turn = Turn(tokenizer, ids, params_of(defaults, asked, number % asked.n), capacity, pieces.append)
            self._choices.append(_Choice(number, turn, pieces, tokenizer, tell))
        echoed = asked.told if isinstance(asked, CompletionRequest) and asked.echo else None
        self._jobs = scheduler.submit([(choice.turn, choice.told) for choice in self._choices], scores=echoed)
        self.finished: dict[int, Finished] = {}

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for job in self._jobs:
            if not job.done:
                self._scheduler.cancel(job)

    async def events(self) -> AsyncIterator[Event]:
        """Until all choices are over. Raises what went wrong with any, and Refused when the time is."""
        while len(self.finished) < len(self._jobs):
            try:
                news = await asyncio.wait_for(self._news.get(), max(0.0, self._deadline - asyncio.get_running_loop().time()))
            except asyncio.TimeoutError:
                raise Refused(504, f"the answer took longer than {self._seconds:g} s", remedy="ask for fewer tokens", code="timeout") from None
            if isinstance(news, InterlockError):
                raise news
            if news.reason is not None:
                turn, job = self._choices[news.index].turn, self._jobs[news.index]
                self.finished[news.index] = Finished(turn.result(), job.reused, turn.halt_probability, tuple(job.scored))
            yield news


class _Choice:
    """One turn, as the scheduler's thread tells of it."""

    def __init__(self, index: int, turn: Turn, pieces: list[str], tokenizer: Tokenizer, tell: Any) -> None:
        self.index, self.turn, self._pieces, self._tokenizer, self._tell = index, turn, pieces, tokenizer, tell
        self._bytes = self._begun = 0  # of the text that was passed on; of the tokens whose log-probabilities were
        self._logprobs = 0
        self._state: tuple[int, float | None] = (0, None)

    def told(self, job: Job[Any]) -> None:
        """In the scheduler's thread, after each step."""
        if job.error is not None:
            self._tell(job.error)
            return
        text, state = "".join(self._pieces), (self.turn.slots, self.turn.halt_probability)
        self._pieces.clear()
        self._bytes += len(text.encode())
        if text or job.done or state != self._state:
            self._state = state
            self._tell(Event(self.index, text, self._shown(), state, self.turn.reason))

    def _shown(self) -> tuple[Chosen, ...]:
        """Log-probabilities of the tokens that begin in the text so far: none of a text that may still be taken back, and none of what ended it."""
        first = self._logprobs
        for chosen in self.turn.logprobs[first:]:
            size = len(self._tokenizer.token_bytes(chosen.token))
            if self._begun >= self._bytes or (size == 0 and self.turn.reason == "eos"):
                break
            self._begun += size
            self._logprobs += 1
        return tuple(self.turn.logprobs[first : self._logprobs])
