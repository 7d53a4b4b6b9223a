"""A teacher behind an OpenAI-compatible endpoint (`POST …/chat/completions`).

Here: what is sent. Not here: HTTP and the key (interlock/posting.py), reading the reply (replies.py).
The key comes from an environment variable, goes into one header, and is written nowhere: parameters hold the variable's name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from interlock.errors import UsageError
from interlock.posting import Patience, completions, endpoint_key, post
from pipeline.datasets.rows import Message, Row
from pipeline.training.teaching import replies
from pipeline.training.teaching.answers import Answer, Capture, Teacher, failed
from pipeline.training.teaching.vocabulary import Vocabulary

MOST_LOGPROBS = 20  # of `top_logprobs`, by OpenAI's API and every server that follows it


def endpoint(url: str, model: str, key_variable: str, capture: Capture, patience: Patience, at_once: int, vocabulary: Vocabulary | None) -> Teacher:
    """Nothing is sent yet. vocabulary: of the teacher, needed for log-probabilities: an endpoint says tokens as text.

    Raises UsageError for a URL that is none, a key that would travel in the clear, and log-probabilities that no endpoint gives.
    """
    place = completions(url)
    key = endpoint_key(key_variable, place)
    if capture.top_k > MOST_LOGPROBS:
        remedy = f"ask for at most {MOST_LOGPROBS}, or use a checkpoint as the teacher"
        raise UsageError(f"--top-k is {capture.top_k}, an endpoint gives at most {MOST_LOGPROBS} log-probabilities per token", remedy=remedy)
    if capture.top_k and vocabulary is None:
        raise UsageError("log-probabilities of an endpoint need its tokenizer: tokens come as text", remedy="give --tokenizer, or --top-k 0")

    def ask(rows: Sequence[Row]) -> list[Answer]:
        said = (post(place, key, request_of(row, model, capture), patience, partial(failed, model)) for row in rows)
        return [replies.read(reply, model, capture, vocabulary) for reply in said]

    return Teacher(
        name=model,
        digest=None,
        tokenizer=vocabulary.sha256 if vocabulary else None,
        vocab_size=vocabulary.size if vocabulary else None,
        settings={"url": place.geturl()},
        ask=ask,
        at_once=at_once,
    )


def request_of(row: Row, model: str, capture: Capture) -> dict[str, Any]:
    """The body of a request. A row's prompt is sent as one message of the user."""
    messages = list(_wire(row.messages)) if row.messages is not None else [{"role": "user", "content": row.prompt}]
    asked: dict[str, Any] = {"model": model, "messages": messages, "max_tokens": capture.max_new_tokens, "temperature": capture.temperature}
    if capture.seed is not None:
        asked["seed"] = capture.seed
    if capture.top_k:
        asked |= {"logprobs": True, "top_logprobs": capture.top_k}
    return asked


def _wire(messages: tuple[Message, ...]) -> Iterator[dict[str, Any]]:
    """Messages in the API's form: calls get ids, and the tool messages after them name these in their order."""
    waiting: list[str] = []
    made = 0
    for message in messages:
        one: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.calls:
            waiting = [f"call_{made + number}" for number in range(len(message.calls))]
            made += len(waiting)
            one["tool_calls"] = [
                {"id": name, "type": "function", "function": {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)}}
                for name, call in zip(waiting, message.calls, strict=True)
            ]
        elif message.role == "tool":
            one["tool_call_id"] = waiting.pop(0) if waiting else "call_0"
        yield one
