"""An answer that is given again until it will do: refinement for one request of the server.

Here: the thread of the attempts, between the event loop and the scheduler. Not here: attempts and when they end (runtime/orchestration), what may
ask for them (requests.py), the document (app.py).
Attempts wait for the scheduler like everybody's generations: nothing of the model is run in this thread, but judges are.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from runtime.engine.scheduler import Job, Scheduler
from runtime.engine.turn import Generation, GenerationParams, Turn
from runtime.orchestration.attempts import Refined, refine
from runtime.orchestration.prompts import asked as conversation_of
from runtime.serving.answers import Finished
from runtime.serving.refusals import Refused
from runtime.serving.requests import ChatRequest
from runtime.serving.running import Model, params_of


class Refinement:
    """Leaving the context ends what still runs, before its next step; a judge that runs comes to its end."""

    def __init__(self, model: Model, scheduler: Scheduler[Any], asked: ChatRequest, defaults: GenerationParams, seconds: float) -> None:
        """defaults: the model's, with what holds an answer to a form; seconds: the most that all attempts may take. Raises UsageError."""
        self._model, self._scheduler, self._seconds = model, scheduler, seconds
        self._conversation = conversation_of([message.plain() for message in asked.messages])
        self._params = params_of(defaults, asked, 0)
        self._deadline = time.monotonic() + seconds
        self._changed = threading.Condition()
        self._left = False
        self.finished: list[Finished] = []
        """Every attempt that is over, in order."""

    def __enter__(self) -> Refinement:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._changed:
            self._left = True
            self._changed.notify_all()

    @property
    def prompt_tokens(self) -> int:
        """Of all attempts."""
        return sum(one.generation.prompt_tokens for one in self.finished)

    async def run(self) -> Refined:
        """Raises what encoding, generating and the judge raise, QueueFull, and Refused when the time is over."""
        loop = asyncio.get_running_loop()
        made: asyncio.Future[Refined] = loop.create_future()

        def tell(found: Refined | Exception) -> None:
            if made.done():  # nobody waits any more
                return
            if isinstance(found, Exception):
                made.set_exception(found)
            else:
                made.set_result(found)

        def work() -> None:
            found: Refined | Exception
            try:
                found = refine(self._model.loaded, self._conversation, self._params, self._model.rules, self._model.judge, answer=self._answer)
            except Exception as problem:  # raised again where it is waited for
                found = problem
            if not self._left:
                loop.call_soon_threadsafe(tell, found)

        # A thread of its own: attempts of some would otherwise hold up templates and forms of others, which share a few.
        threading.Thread(target=work, name="refinement", daemon=True).start()
        return await made

    def _answer(self, ids: Sequence[int], params: GenerationParams) -> Generation:
        """One attempt, in turn with everybody's."""
        over: list[Job[Any]] = []

        def told(job: Job[Any]) -> None:
            if job.done:
                with self._changed:
                    over.append(job)
                    self._changed.notify_all()

        turn = Turn(self._model.loaded.tokenizer, ids, params, self._model.loaded.backend.capacity)
        (job,) = self._scheduler.submit([(turn, told)])
        with self._changed:
            self._changed.wait_for(lambda: over or self._left, max(0.0, self._deadline - time.monotonic()))
        if not over:
            self._scheduler.cancel(job)
            raise Refused(504, f"the answers took longer than {self._seconds:g} s", remedy="ask for fewer tokens", code="timeout")
        if job.error is not None:
            raise job.error
        self.finished.append(Finished(turn.result(), job.reused, turn.halt_probability))
        return turn.result()
