"""What a choice says, as the interface writes it: words, or words and calls of tools, whole or piece by piece.

Here: messages and what is new of them. Not here: reading calls (runtime/tools), the documents around a message (answers.py).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

from runtime.engine.turn import Reason
from runtime.serving.answers import FINISH
from runtime.tools.calls import arguments_text, parse_reply
from runtime.tools.stream import CallStream, Delta


def message(text: str, *, tools: bool) -> dict[str, Any]:
    """A whole message. tools: whether its calls are read, or all of it is words."""
    reply = parse_reply(text) if tools else None
    if reply is None or not reply.calls:
        return {"content": text}
    called = [(call.name, arguments_text(call.arguments)) for call in reply.calls]
    return {"content": reply.text or None, "tool_calls": [_begun() | {"function": {"name": name, "arguments": said}} for name, said in called]}


def finish_of(reason: Reason, said: dict[str, Any]) -> str:
    return "tool_calls" if FINISH[reason] == "stop" and said.get("tool_calls") else FINISH[reason]


class Saying:
    """A message as it comes."""

    def __init__(self, *, tools: bool) -> None:
        self._calls = CallStream() if tools else None
        self.called = False

    def push(self, text: str, *, over: bool) -> list[dict[str, Any]]:
        """What is new of the message, at most one word or call each. over: no more text comes."""
        if self._calls is None:
            return [{"content": text}] if text else []
        deltas = [*self._calls.push(text), *(self._calls.finish() if over else ())]
        return list(self._documents(deltas))

    def finish(self, reason: Reason) -> str:
        return "tool_calls" if FINISH[reason] == "stop" and self.called else FINISH[reason]

    def _documents(self, deltas: list[Delta]) -> Iterator[dict[str, Any]]:
        for delta in deltas:
            if delta.index is None:
                yield {"content": delta.text}
                continue
            self.called = True
            head = _begun() if delta.name is not None else {}
            named = {"name": delta.name} if delta.name is not None else {}
            yield {"tool_calls": [{"index": delta.index, **head, "function": {**named, "arguments": delta.arguments}}]}


def _begun() -> dict[str, Any]:
    return {"id": f"call_{secrets.token_hex(12)}", "type": "function"}
