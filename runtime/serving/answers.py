"""What a client gets: completions, chunks and usage in the form of the OpenAI interface.

Here: documents. Not here: where their values come from (running.py), how they are sent (app.py).
Fields beyond the interface: `latent_steps`, `latent_slots`, `latent_spans`, `loops` and `halt_probability` of `usage`, `state` of a chunk.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from runtime.engine.logprobs import Chosen
from runtime.engine.tokenizer import Stream, Tokenizer
from runtime.engine.turn import Generation, Reason

FINISH: dict[Reason, Literal["stop", "length"]] = {
    "eos": "stop", "stop": "stop", "complete": "stop", "halt": "stop", "length": "length", "position_limit": "length", "interrupted": "length",
}  # fmt: skip


@dataclass(frozen=True)
class Finished:
    """One choice that is over. reused: ids of its prompt that were in a cache already; echoed: what the model thought of the prompt's tokens after
    the first, where that was asked for."""

    generation: Generation
    reused: int
    halt_probability: float | None
    echoed: tuple[Chosen, ...] = ()


@dataclass(frozen=True)
class Heading:
    """What every document of one answer begins with. kind: `chat.completion` or `text_completion`."""

    kind: Literal["chat.completion", "text_completion"]
    id: str
    model: str
    fingerprint: str
    created: int = field(default_factory=lambda: int(time.time()))

    def document(self, choices: Sequence[dict[str, Any]], *, chunk: bool = False, **more: Any) -> dict[str, Any]:
        kind = f"{self.kind}.chunk" if chunk and self.kind == "chat.completion" else self.kind
        head = {"id": self.id, "object": kind, "created": self.created, "model": self.model, "system_fingerprint": self.fingerprint}
        return {**head, "choices": list(choices), **more}

    def choice(self, index: int, said: Mapping[str, Any], finish: str, logprobs: dict[str, Any] | None) -> dict[str, Any]:
        """said: the message of a chat (saying.py), or `{"text"}`."""
        words = {"message": {"role": "assistant", **said, "refusal": None}} if self.kind == "chat.completion" else said
        return {"index": index, **words, "logprobs": logprobs, "finish_reason": finish}

    def delta(self, index: int, said: Mapping[str, Any], *, first: bool, finish: str | None, logprobs: dict[str, Any] | None) -> dict[str, Any]:
        """A choice of a chunk. said: what is new of the message, or `{"text"}`; finish: None while it goes on."""
        head = {"role": "assistant", "content": ""} if first else {}
        words = {"delta": {**head, **said}} if self.kind == "chat.completion" else said
        return {"index": index, **words, "logprobs": logprobs, "finish_reason": finish}


def usage(finished: Iterable[Finished], prompts: int, loops: int = 1) -> dict[str, Any]:
    """prompts: their tokens, once for all choices of each, or those of all attempts; loops: attempts. A latent step is a completion token that
    reasons."""
    done = list(finished)
    traces = [one.generation.latent for one in done if one.generation.latent]
    halts = [one.halt_probability for one in done if one.halt_probability is not None]
    latent, said = sum(trace.steps for trace in traces), sum(one.generation.steps for one in done)
    return {
        "prompt_tokens": prompts,
        "completion_tokens": said,
        "total_tokens": prompts + said,
        "prompt_tokens_details": {"cached_tokens": min(prompts, sum(one.reused for one in done))},
        "completion_tokens_details": {"reasoning_tokens": latent},
        "latent_steps": latent,
        "latent_slots": sum(trace.slots for trace in traces),
        "latent_spans": sum(len(trace.spans) for trace in traces),
        "loops": loops,
        "halt_probability": max(halts) if halts else None,
    }


def chat_logprobs(tokenizer: Tokenizer, chosen: Sequence[Chosen]) -> dict[str, Any]:
    def entry(token: int, logprob: float) -> dict[str, Any]:
        spelled = tokenizer.token_bytes(token)
        return {"token": spelled.decode("utf-8", "replace"), "logprob": _finite(logprob), "bytes": list(spelled)}

    content = [entry(one.token, one.logprob) | {"top_logprobs": [entry(*top) for top in one.top]} for one in chosen]
    return {"content": content, "refusal": None}


def text_logprobs(tokenizer: Tokenizer, chosen: Sequence[Chosen], offset: int) -> dict[str, Any]:
    """offset: characters of the text before the first of these."""
    tops = [{_spelled(tokenizer, token): _finite(logprob) for token, logprob in one.top} for one in chosen]
    stream, offsets = Stream(tokenizer), [offset]
    for one in chosen:
        offsets.append(offsets[-1] + len(stream.push(one.token)))
    return {
        "tokens": [_spelled(tokenizer, one.token) for one in chosen],
        "token_logprobs": [_finite(one.logprob) for one in chosen],
        "top_logprobs": tops if any(tops) else None,
        "text_offset": offsets[:-1],
    }


def echoed_logprobs(tokenizer: Tokenizer, prompt: Sequence[int], finished: Finished) -> dict[str, Any]:
    """Of a text that begins with its prompt: of all its tokens, one that ended it included, so that their number is known beforehand. Of the first
    there is nothing to tell."""
    told = text_logprobs(tokenizer, [Chosen(prompt[0], 0.0, ()), *finished.echoed, *finished.generation.logprobs], 0)
    told["token_logprobs"][0] = None
    if told["top_logprobs"]:
        told["top_logprobs"][0] = None
    return told


def _spelled(tokenizer: Tokenizer, token: int) -> str:
    """Part of a character has no text: the interface gives its bytes then."""
    spelled = tokenizer.token_bytes(token)
    try:
        return spelled.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelled)


def _finite(logprob: float) -> float:
    """JSON has no infinity; -9999 is what the interface gives for it."""
    return logprob if math.isfinite(logprob) else -9999.0
