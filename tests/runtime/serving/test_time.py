"""Time limits, in this process over a slow model that is a function: of generating, of sending a request, of the whole."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import numpy as np
import pytest
from fakes.byte_tokenizer import byte_tokenizer
from fakes.function_backend import FunctionBackend

from runtime.engine.scheduler import Limits, Scheduler
from runtime.engine.turn import GenerationParams
from runtime.load import Loaded
from runtime.orchestration.refine import Rules
from runtime.serving.app import Service, application
from runtime.serving.gate import Access, Gate
from runtime.serving.metrics import Metrics
from runtime.serving.running import Model

pytestmark = pytest.mark.train

BODY = {"model": "m", "prompt": "ab", "max_tokens": 100_000}


def asked(
    body: Any, *, generating_s: float, whole_s: float, whole_body: bool = True, reads: bool = True
) -> tuple[int | None, bytes, list[str], tuple[int, int]]:
    """Status, what was received, the log, and what still runs and waits afterwards."""
    tokenizer, log = byte_tokenizer(), list[str]()

    def logits_of(ids: Any) -> Any:
        time.sleep(0.005)
        return np.zeros(tokenizer.vocab_size, np.float32)

    backend = FunctionBackend(logits_of, capacity=1_000_000)
    model = Model("m", Loaded(backend, "eager", tokenizer, tokenizer.info, None, "0" * 64), GenerationParams(), Rules(1.0, None, 1))
    scheduler = Scheduler(backend, Limits())
    service = Service(model, scheduler, Metrics(), generating_s, 0)
    gate = Gate(application(service), Access(seconds=whole_s), service.metrics, log.append)
    status: list[int] = []
    received = bytearray()

    async def run() -> None:
        messages = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": not whole_body}]

        async def receive() -> Any:
            return messages.pop() if messages else await asyncio.Event().wait()

        async def send(message: Any) -> None:
            status.extend([message["status"]] if "status" in message else [])
            received.extend(message.get("body", b""))
            if not reads and received:
                await asyncio.Event().wait()  # the buffers are full, for ever

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/completions",
            "headers": headers,
            "query_string": b"",
            "asgi": {"spec_version": "2.3"},
        }
        await gate(scope, receive, send)
        for _ in range(200):
            if scheduler.counts()[:2] == (0, 0):
                break
            await asyncio.sleep(0.02)

    try:
        asyncio.run(run())
        return status[0] if status else None, bytes(received), log, scheduler.counts()[:2]
    finally:
        scheduler.close()


def test_generating_is_limited() -> None:
    status, received, log, left = asked(BODY, generating_s=0.3, whole_s=60)
    assert status == 504 and json.loads(received)["error"]["code"] == "timeout" and left == (0, 0)
    assert " 504 " in log[0] and "unfinished" in log[0]


def test_a_stream_that_takes_too_long_ends_with_an_error() -> None:
    status, received, _, left = asked({**BODY, "stream": True}, generating_s=0.5, whole_s=60)
    *chunks, last = [json.loads(event[6:]) for event in received.decode().strip().split("\n\n")]
    assert status == 200 and last["error"]["code"] == "timeout" and all(chunk["choices"] for chunk in chunks) and left == (0, 0)


def test_a_request_that_does_not_arrive_is_given_up() -> None:
    status, received, _, _ = asked(BODY, generating_s=60, whole_s=0.3, whole_body=False)
    assert status == 408 and json.loads(received)["error"]["type"] == "invalid_request_error"


def test_an_answer_that_nobody_reads_is_given_up() -> None:
    status, received, log, left = asked({**BODY, "stream": True}, generating_s=60, whole_s=1.0, reads=False)
    assert status == 200 and received.count(b"data:") == 1 and left == (0, 0) and len(log) == 1
