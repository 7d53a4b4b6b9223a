"""Dialogues of rows in the form that chat templates take: messages, calls and tools as transformers' `apply_chat_template` has them.

Here: that form, and what a template may not leave out of it. Not here: the fields of a row (rows.py), rendering (runtime/engine/chats.py), the form
of endpoints (pipeline/training/teaching/endpoint.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from interlock.contracts.strict import shown
from pipeline.datasets.rows import Message, Row
from pipeline.datasets.tools import Registry, Tool
from runtime.engine.chats import Conversation


def conversation(row: Row, registry: Registry, messages: Sequence[Message]) -> Conversation:
    """`messages` with the tools that the row offers, none of them unknown."""
    offered = [described(name, registry[name]) for name in _offered(row, registry)]
    return Conversation(tuple(template_messages(messages)), {"tools": offered} if offered else {})


def unknown_tool(row: Row, registry: Registry) -> str | None:
    """A tool that the row offers and its dataset does not have."""
    return next((name for name in _offered(row, registry) if name not in registry), None)


def _offered(row: Row, registry: Registry) -> list[str]:
    """The names in `metadata.tools`, all of the registry where a row says none; nothing in a dataset without tools."""
    named = row.metadata.get("tools")
    return [str(name) for name in named] if registry and isinstance(named, list) else sorted(registry)


def described(name: str, tool: Tool) -> dict[str, Any]:
    """A tool as templates get it: the JSON Schema of a function."""
    return {"type": "function", "function": {"name": name, **tool.model_dump(mode="json", exclude_none=True)}}


def template_messages(messages: Iterable[Message]) -> Iterator[dict[str, Any]]:
    """Calls get ids of nine letters and digits (some templates take no others), and tool messages name the calls that they answer, in their order."""
    waiting: list[tuple[str, str]] = []
    made = 0
    for message in messages:
        one: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.calls:
            waiting = [(f"call{made + number:05d}", call.name) for number, call in enumerate(message.calls)]
            made += len(waiting)
            one["tool_calls"] = [
                {"id": name, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for (name, _), call in zip(waiting, message.calls, strict=True)
            ]
        elif message.role == "tool" and waiting:
            one["tool_call_id"], one["name"] = waiting.pop(0)
        yield one


def left_out(conversation: Conversation, prompt: str, said: str | None = None) -> str | None:
    """What a template did not write of a dialogue, in words. Those without a branch for tools pass them over in silence, and a model would learn to
    call what it was never shown, or to answer from what it never saw. prompt, said: the text before the words of the last message, and these; where
    nothing is said yet, all messages are the prompt."""
    before = conversation.messages if said is None else conversation.messages[:-1]
    for text, messages in ((prompt, before), (said or "", conversation.messages[len(before) :])):
        called = {call["function"]["name"] for message in messages for call in message.get("tool_calls", ())}
        if missing := sorted(name for name in called if name not in text):
            return f"the call of `{missing[0]}`"
    offered: Sequence[Mapping[str, Any]] = conversation.variables.get("tools", ())
    if missing := sorted(tool["function"]["name"] for tool in offered if tool["function"]["name"] not in prompt):
        return f"the tool `{missing[0]}`, which the row offers"
    results = [message["content"] for message in before if message["role"] == "tool"]
    # Templates trim or escape a result; its plain words survive both.
    if missing := [content for content in results if not all(word in prompt for word in re.findall("[A-Za-z0-9]+", content))]:
        return f"the result {shown(missing[0])} of a tool"
    return None
