"""Requests of every kind, and what a backend says to each: asked one after another, or all at once."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from runtime.backends.protocol import Backend
from runtime.engine.generate import generate
from runtime.engine.sampling import SamplingParams
from runtime.engine.scheduler import Job, Limits, Scheduler
from runtime.engine.tokenizer import Tokenizer
from runtime.engine.turn import Generation, GenerationParams, Turn

Requests = Mapping[str, tuple[list[int], GenerationParams]]
ARGUMENTS = {"type": "object", "properties": {"unit": {"enum": ["c", "f"]}}, "required": ["unit"], "additionalProperties": False}
TOOLS: list[dict[str, Any]] = [{"type": "function", "function": {"name": name, "parameters": ARGUMENTS}} for name in ("here", "there")]


def requests(tokenizer: Tokenizer, question: str, limit: int, halts: float) -> Requests:
    """Of a model with a chat template and a halt head. limit: of the tokens of each but calls; halts: the head's threshold where it is obeyed."""
    from runtime.engine.chat import encode_chat
    from runtime.engine.constraints import sources
    from runtime.engine.constraints.compiled import compile_constraint
    from runtime.tools.definitions import Choice, parse_tools
    from runtime.tools.grammar import LIST, reply_source

    prompt = encode_chat(tokenizer, [{"role": "user", "content": question}])
    plain = GenerationParams(max_new_tokens=limit, eos_ids=tokenizer.info.eos_ids)
    hot = replace(plain, sampling=SamplingParams(0.9, top_p=0.9, repetition_penalty=1.2, seed=3))
    called = reply_source(tokenizer, parse_tools(TOOLS), Choice("required"), LIST, parallel=False)
    assert called
    forms = {"sentences": sources.regex(r"([a-z]{1,4}\.)+"), "a schema": sources.json_schema(ARGUMENTS), "a call": called}
    held = {name: replace(hot, max_new_tokens=100, constraint=compile_constraint(tokenizer, form)) for name, form in forms.items()}
    return {
        "greedy": (prompt, plain),
        "sampled": (prompt, hot),
        "among few": (prompt[:-3], replace(plain, sampling=SamplingParams(1.3, top_k=20, min_p=0.05, seed=4))),
        "drafts": (prompt * 2, replace(plain, drafts=6)),
        "stop and log-probabilities": (prompt[1:], replace(hot, stop=("e",), logprobs=2)),
        "a halt head": (prompt, replace(held.pop("sentences"), halt_threshold=halts)),
        **{name: (prompt, params) for name, params in held.items()},
    }


def alone(backend: Backend[Any], tokenizer: Tokenizer, asked: Requests) -> dict[str, Any]:
    """What comes of each by itself."""
    return {name: said(generate(backend, tokenizer, ids, params)) for name, (ids, params) in asked.items()}


def together(backend: Backend[Any], tokenizer: Tokenizer, asked: Requests, running: int) -> dict[str, Any]:
    """The same, last ones first, so many at a time and the others as places come free."""
    scheduler, over = Scheduler(backend, Limits(running=running)), threading.Semaphore(0)
    turns = {name: Turn(tokenizer, ids, params, backend.capacity) for name, (ids, params) in reversed(asked.items())}

    def told(job: Job[Any]) -> None:
        if job.done:
            over.release()

    try:
        jobs = scheduler.submit([(turn, told) for turn in turns.values()])
        assert all(over.acquire(timeout=120) for _ in jobs)
        assert not [job.error for job in jobs if job.error]
    finally:
        scheduler.close()
    return {name: said(turn.result()) for name, turn in turns.items()}


def said(made: Generation) -> tuple[Any, ...]:
    """What does not depend on a backend's rounding."""
    spans = [(span.start, span.slots, span.ended) for span in made.latent.spans] if made.latent else None
    return made.text, made.tokens, made.reason, made.forced, spans, [one.token for one in made.logprobs]
