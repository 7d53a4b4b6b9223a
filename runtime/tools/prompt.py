"""Tools in a prompt: through the chat template where it has a branch for them, else in words of ours.

Here: which of the two, the words, calls and results of earlier turns. Not here: rendering (engine/chat.py), the grammar of a reply (grammar.py).
Many templates pass over `tools` without a word (SmolLM2-135M's does). So each is asked: does a tool come out of it, and how does it write calls?
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from interlock.errors import InterlockError, UsageError
from runtime.engine.chat import Message, render_chat
from runtime.engine.tokenizer import Tokenizer
from runtime.tools.calls import CLOSING, OPENING
from runtime.tools.definitions import Tool
from runtime.tools.grammar import BLOCKS, LIST, Form

_WORDS = """You can call these tools:
<tools>{tools}</tools>

To call tools, answer with a list of calls and nothing after it:
<tool_call>[{{"name": "the tool's name", "arguments": {{"an argument": "its value"}}}}]</tool_call>
If no tool is needed, answer in words."""


@dataclass(frozen=True)
class Prompt:
    """What `encode_chat` is given: messages, and what the template reads beside them. `form`: how calls will stand in the reply."""

    messages: tuple[Message, ...]
    variables: dict[str, Any]
    form: Form


def tool_prompt(tokenizer: Tokenizer, messages: Sequence[Message], tools: Sequence[Tool]) -> Prompt:
    """Messages in OpenAI's form (roles system, user, assistant with `tool_calls`, tool) for a model that is offered `tools`, perhaps none.

    Raises UsageError for a model without a chat template, and for calls and results in `messages` that are not of that form.
    """
    if tokenizer.chat_template is None:
        raise UsageError("this model has no chat template, so no tool can be told to it", remedy="give the prompt as plain text, without tools")
    ends = (tokenizer.info.bos_id, next(iter(tokenizer.info.eos_ids), None))
    form = template_form(tokenizer.chat_template, *map(tokenizer.token_string, ends))
    if form is not None:
        variables = {"tools": [tool.document() for tool in tools]} if tools else {}
        return Prompt(tuple(map(_with_objects, messages)), variables, form)
    plain = _plain(messages)
    if not tools:
        return Prompt(plain, {}, LIST)
    words = _WORDS.format(tools=json.dumps([tool.document() for tool in tools], ensure_ascii=False))
    return Prompt(_with_words(plain, words), {}, LIST)


_PROBE = Tool("probe_d41d8cd98f00", "", {"type": "object", "properties": {}})  # a name that nobody else would say
_ASKED = {"role": "user", "content": "?"}
_CALL = {"id": "call00000", "type": "function", "function": {"name": _PROBE.name, "arguments": {}}}
_CALLED = {"role": "assistant", "content": "", "tool_calls": [_CALL, _CALL]}


@lru_cache(maxsize=16)  # a rendering is a child process
def template_form(template: str, bos_token: str | None, eos_token: str | None) -> Form | None:
    """How calls stand in a reply by a chat template that tells tools; None for one that does not.

    The form is the template's own where it writes calls as objects between marks that are known here, else that of most templates.
    """

    def rendered(messages: Sequence[Message], *, prompt: bool) -> str:
        variables = {"tools": [_PROBE.document()]}
        return render_chat(template, messages, add_generation_prompt=prompt, bos_token=bos_token, eos_token=eos_token, variables=variables)

    asked = rendered([_ASKED], prompt=True)
    if _PROBE.name not in asked:
        return None
    try:
        said = rendered([_ASKED, _CALLED], prompt=False)
    except InterlockError:  # a template may refuse calls, or these
        return BLOCKS
    return (_form_of(said[len(asked) :]) if said.startswith(asked) else None) or BLOCKS


def _form_of(said: str) -> Form | None:
    """The form of a turn with two calls; None if it is another than objects between marks."""
    parts = said.lstrip().split(json.dumps({"name": _PROBE.name, "arguments": {}}))
    if len(parts) != 3 or not parts[0].startswith(OPENING) or CLOSING not in parts[2]:
        return None
    return Form(parts[0], parts[1], parts[2].partition(CLOSING)[0] + CLOSING)


def _with_words(messages: tuple[Message, ...], words: str) -> tuple[Message, ...]:
    if messages and messages[0]["role"] == "system":
        return ({**messages[0], "content": f"{messages[0]['content']}\n\n{words}"}, *messages[1:])
    return ({"role": "system", "content": words}, *messages)


def _with_objects(message: Message) -> Message:
    """Templates write a call's arguments as JSON: OpenAI's, which are text already, would come out in quotes."""
    if not message.get("tool_calls"):
        return message
    calls = [{**call, "function": {**call["function"], "arguments": _arguments(call)}} for call in message["tool_calls"] if _is_call(call)]
    return {**message, "content": message.get("content") or "", "tool_calls": calls}


def _plain(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Only roles that every template knows: calls become an assistant's words, results of the same calls one message of the user."""
    plain: list[dict[str, Any]] = []
    for before, message in zip([None, *messages], messages, strict=False):
        if message["role"] == "tool":
            result = f"<tool_response>{message.get('content') or ''}</tool_response>"
            if before is not None and before["role"] == "tool":
                plain[-1]["content"] += f"\n{result}"
            else:
                plain.append({"role": "user", "content": result})
        elif calls := message.get("tool_calls"):
            told = [{"name": call["function"]["name"], "arguments": _arguments(call)} for call in calls if _is_call(call)]
            words = f"{message.get('content') or ''}{OPENING}{json.dumps(told, ensure_ascii=False)}{CLOSING}"
            plain.append({"role": message["role"], "content": words})
        else:
            plain.append({"role": message["role"], "content": message.get("content") or ""})
    return tuple(plain)


def _is_call(call: object) -> bool:
    """Raises UsageError if not."""
    match call:
        case {"function": {"name": str(), "arguments": str() | dict()}}:
            return True
    raise UsageError("a tool call of the conversation is not one", remedy='give {"function": {"name": …, "arguments": …}}')


def _arguments(call: Mapping[str, Any]) -> Any:
    arguments = call["function"]["arguments"]
    try:
        return json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError):
        raise UsageError("the arguments of a tool call of the conversation are not JSON", remedy="give them as the model did") from None
