"""The application: paths, and what each answers.

Here: from a request's body to its answer or stream. Not here: who may ask (gate.py), the bodies (requests.py) and the documents (answers.py),
generating (running.py, refining.py), the process (server.py).
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from interlock import __version__
from interlock.errors import InterlockError
from runtime.engine.logprobs import Chosen
from runtime.engine.scheduler import Scheduler
from runtime.engine.turn import GenerationParams
from runtime.serving import answers, metrics, openapi, page
from runtime.serving.answers import Finished, Heading
from runtime.serving.asking import ask
from runtime.serving.metrics import Metrics
from runtime.serving.refining import Refinement
from runtime.serving.refusals import Refused, refused
from runtime.serving.requests import BODY_BYTES, BodyT, ChatRequest, CompletionRequest, read
from runtime.serving.running import Event, Model, Run
from runtime.serving.saying import Saying, finish_of, message

T = TypeVar("T")
Asked = ChatRequest | CompletionRequest


@dataclass(frozen=True)
class Service:
    """What answers. seconds: the most that one request may be generated for; started: of the model, in seconds since 1970."""

    model: Model
    scheduler: Scheduler[Any]
    metrics: Metrics
    seconds: float
    started: int

    async def chat(self, request: Request) -> Response:
        asked = await self._asked(request, ChatRequest)
        told = await asyncio.to_thread(ask, self.model, asked)
        heading = Heading("chat.completion", f"chatcmpl-{secrets.token_hex(12)}", *self._names())
        if asked.refine:
            return await self._refined(request, asked, told.params, heading)
        return await self._answered(request, asked, [told.prompt_ids], told.params, heading)

    async def completions(self, request: Request) -> Response:
        asked = await self._asked(request, CompletionRequest)
        ids = [self._prompt_ids(prompt) for prompt in asked.prompts]
        heading = Heading("text_completion", f"cmpl-{secrets.token_hex(12)}", *self._names())
        return await self._answered(request, asked, ids, self.model.defaults, heading)

    async def models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._described()]})

    async def one_model(self, request: Request) -> Response:
        self._check_name(request.path_params["name"])
        return JSONResponse(self._described())

    async def health(self, request: Request) -> Response:
        running, waiting, _ = self.scheduler.counts()
        return JSONResponse({"status": "ok", "model": self.model.name, "running": running, "waiting": waiting, "version": __version__})

    async def show_metrics(self, request: Request) -> Response:
        values = dict(zip(metrics.GAUGES, self.scheduler.counts(), strict=True))
        return PlainTextResponse(self.metrics.text(values), media_type=metrics.CONTENT_TYPE)

    async def page(self, request: Request) -> Response:
        return HTMLResponse(page.PAGE, headers=page.HEADERS)

    async def openapi(self, request: Request) -> Response:
        return JSONResponse(openapi.DOCUMENT)

    def _names(self) -> tuple[str, str]:
        return self.model.name, f"fp_{self.model.loaded.digest[:12]}"

    def _described(self) -> dict[str, Any]:
        loaded = self.model.loaded
        more = {"digest": loaded.digest, "backend": loaded.backend_name, "context_length": loaded.backend.capacity}
        return {"id": self.model.name, "object": "model", "created": self.started, "owned_by": "interlock", **more}

    def _check_name(self, name: str) -> None:
        if name != self.model.name:
            raise Refused(404, f"there is no model `{name[:100]}`", remedy=f"there is `{self.model.name}`", param="model", code="model_not_found")

    async def _asked(self, request: Request, kind: type[BodyT]) -> BodyT:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            # Also what keeps other sites' forms away: a browser sends this type to another site only if that site agrees.
            raise Refused(415, "the body is not declared as JSON", remedy="send `Content-Type: application/json`")
        asked = read(kind, await _body(request))
        self._check_name(asked.model)
        self.scheduler.check_room(asked.n)
        return asked

    async def _answered(self, request: Request, asked: Asked, prompts: list[list[int]], defaults: GenerationParams, heading: Heading) -> Response:
        record = request.state.record
        run = record.stack.enter_context(Run(self.model, self.scheduler, prompts, asked, defaults, self.seconds))
        record.stack.callback(lambda: self._count(list(run.finished.values()), sum(map(len, prompts)), record))
        if asked.stream:
            events = self._stream(run, asked, sum(map(len, prompts)), heading)
            return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        return JSONResponse(await _unless_gone(request, self._whole(run, asked, prompts, heading)))

    async def _refined(self, request: Request, asked: ChatRequest, defaults: GenerationParams, heading: Heading) -> Response:
        record = request.state.record
        refinement = record.stack.enter_context(Refinement(self.model, self.scheduler, asked, defaults, self.seconds))
        record.stack.callback(lambda: self._count(refinement.finished, refinement.prompt_tokens, record))
        made = await _unless_gone(request, refinement.run())
        answer = made.answer
        said = message(answer.generation.text, tools=False)
        choice = heading.choice(0, said, finish_of(answer.generation.reason, said), None)
        used = answers.usage(refinement.finished, refinement.prompt_tokens, len(made.attempts))
        score = answer.verdict.score if answer.verdict else None
        ended = {"halt_reason": made.attempts[-1].decision.halt_reason, "attempt": made.best + 1, "score": score}
        return JSONResponse(heading.document([choice], usage=used, refinement=ended))

    async def _whole(self, run: Run, asked: Asked, prompts: list[list[int]], heading: Heading) -> dict[str, Any]:
        logprobs: dict[int, list[Chosen]] = {}
        async for event in run.events():
            logprobs.setdefault(event.index, []).extend(event.logprobs)
        choices = []
        for index, one in sorted(run.finished.items()):
            text, reason = one.generation.text, one.generation.reason
            said = message(text, tools=_calls(asked)) if isinstance(asked, ChatRequest) else {"text": text}
            told = self._logprobs(asked, logprobs[index], 0)
            if isinstance(asked, CompletionRequest) and asked.echo:
                said, told = self._echoed(asked, prompts[index // asked.n], one)
            choices.append(heading.choice(index, said, finish_of(reason, said), told))
        return heading.document(choices, usage=answers.usage(run.finished.values(), sum(map(len, prompts))))

    async def _stream(self, run: Run, asked: Asked, prompt_tokens: int, heading: Heading) -> AsyncIterator[str]:
        options = asked.stream_options
        more: dict[str, Any] = {"usage": None} if options and options.include_usage else {}
        offsets: dict[int, int] = {}
        sayings = defaultdict[int, Saying](lambda: Saying(tools=_calls(asked)))
        try:
            async for event in run.events():
                state = {"state": _state(event)} if options and options.include_state else {}
                saying, offset = sayings[event.index], offsets.get(event.index, 0)
                said = saying.push(event.text, over=event.reason is not None) if isinstance(asked, ChatRequest) else [{"text": event.text}]
                if not (event.text or said or event.reason or event.logprobs or state):
                    continue
                logprobs = self._logprobs(asked, event.logprobs, offset)
                for number, words in enumerate(said or [{}], 1):
                    last = number == max(len(said), 1)
                    finish = saying.finish(event.reason) if event.reason and last else None
                    choice = heading.delta(event.index, words, first=event.index not in offsets, finish=finish, logprobs=logprobs if last else None)
                    offsets[event.index] = offset + len(event.text)
                    yield _event(heading.document([choice], chunk=True, **more, **state))
            if more:
                yield _event(heading.document([], chunk=True, usage=answers.usage(run.finished.values(), prompt_tokens)))
            yield "data: [DONE]\n\n"
        except InterlockError as error:
            yield _event(refused(error).document())

    def _logprobs(self, asked: Asked, chosen: Any, offset: int) -> dict[str, Any] | None:
        if asked.told is None:
            return None
        tokenizer = self.model.loaded.tokenizer
        return answers.chat_logprobs(tokenizer, chosen) if isinstance(asked, ChatRequest) else answers.text_logprobs(tokenizer, chosen, offset)

    def _prompt_ids(self, prompt: str | list[int]) -> list[int]:
        """Raises Refused for ids that are none."""
        tokenizer = self.model.loaded.tokenizer
        if isinstance(prompt, str):
            return tokenizer.encode_prompt(prompt)
        if (highest := max(prompt)) >= tokenizer.vocab_size:
            problem = f"`prompt` has token {highest}, the model has {tokenizer.vocab_size}"
            raise Refused(400, problem, remedy="use the model's own tokenizer", param="prompt")
        return prompt

    def _echoed(self, asked: CompletionRequest, ids: list[int], one: Finished) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """A text that begins with its prompt, and the log-probabilities of both."""
        tokenizer = self.model.loaded.tokenizer
        told = None if asked.told is None else answers.echoed_logprobs(tokenizer, ids, one)
        return {"text": tokenizer.decode(ids) + one.generation.text}, told

    def _count(self, finished: Sequence[Finished], prompt_tokens: int, record: Any) -> None:
        """When the answer is over, or nobody wants it any more."""
        used = answers.usage(finished, prompt_tokens)
        cached, latent = used["prompt_tokens_details"]["cached_tokens"], used["latent_steps"]
        for kind, amount in (("prompt", prompt_tokens), ("cached", cached), ("completion", used["completion_tokens"]), ("latent", latent)):
            self.metrics.add("tokens_total", amount, kind=kind)
        for one in finished:
            self.metrics.add("finished_total", reason=one.generation.reason)
            if one.generation.first_token_ms is not None:
                self.metrics.observe("first_token_seconds", one.generation.first_token_ms / 1e3)
        reasons = ",".join(one.generation.reason for one in finished) or "unfinished"
        record.note = f" {prompt_tokens}+{used['completion_tokens']} tokens ({cached} cached, {latent} latent) {reasons}"


def application(service: Service) -> Starlette:
    """Everything but the gate."""
    routes = [
        Route("/v1/chat/completions", service.chat, methods=["POST"]),
        Route("/v1/completions", service.completions, methods=["POST"]),
        Route("/v1/models", service.models, methods=["GET"]),
        Route("/v1/models/{name:path}", service.one_model, methods=["GET"]),
        Route("/health", service.health, methods=["GET"]),
        Route("/metrics", service.show_metrics, methods=["GET"]),
        Route("/openapi.json", service.openapi, methods=["GET"]),
        Route("/", service.page, methods=["GET"]),
    ]
    return Starlette(routes=routes, exception_handlers={InterlockError: _told(refused), HTTPException: _told(_unrouted)})


def _told(form: Callable[[Any], Refused]) -> Any:
    async def handler(request: Request, error: Exception) -> Response:
        return form(error).response()

    return handler


def _unrouted(error: HTTPException) -> Refused:
    remedy = "there are /v1/chat/completions, /v1/completions, /v1/models, /health, /metrics, /openapi.json and /"
    return Refused(error.status_code, str(error.detail).lower(), remedy=remedy, headers=dict(error.headers or {}))


def _event(document: dict[str, Any]) -> str:
    return f"data: {json.dumps(document, ensure_ascii=False)}\n\n"


def _calls(asked: Asked) -> bool:
    """Whether calls are looked for in the answer."""
    return isinstance(asked, ChatRequest) and bool(asked.tools) and asked.tool_choice != "none"


def _state(event: Event) -> dict[str, Any]:
    slots, halt = event.state
    return {"latent_slots": slots, "loops": 1, "halt_probability": halt}


async def _body(request: Request) -> bytes:
    """Raises Refused beyond the limit, before it is read whole."""
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > BODY_BYTES:
            headers = {"Connection": "close"}
            raise Refused(413, f"the request has more than {BODY_BYTES} bytes", remedy="shorten the conversation", headers=headers)
    return bytes(data)


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result, unless the client leaves before: then ClientDisconnect."""
    answer = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientDisconnect
        return answer.result()
    finally:
        answer.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
