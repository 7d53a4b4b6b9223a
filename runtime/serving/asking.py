"""A chat as the model is asked: ids of the prompt, and what holds the answer to tools or to a form.

Here: from messages, `tools`, `tool_choice` and `response_format` to ids and parameters. Not here: prompts and grammars (runtime/tools), schemas
(runtime/engine/constraints). Takes up to seconds: not for the event loop.
"""

from __future__ import annotations

from dataclasses import replace

from interlock.errors import ContractError
from runtime.engine.chat import encode_chat
from runtime.engine.constraints.compiled import compile_constraint
from runtime.engine.constraints.sources import json_schema
from runtime.serving.refusals import Refused
from runtime.serving.requests import AsSchema, AsText, ChatRequest
from runtime.serving.running import Model
from runtime.tools.definitions import Choice, parse_choice, parse_tools
from runtime.tools.reply import Asked, ask_with_tools


def ask(model: Model, request: ChatRequest) -> Asked:
    """Raises UsageError and Refused for what cannot be told or enforced."""
    tokenizer, messages = model.loaded.tokenizer, [message.plain() for message in request.messages]
    try:
        if request.tools:
            tools = parse_tools(request.tools)
            choice = parse_choice(request.tool_choice, tools)
            return ask_with_tools(tokenizer, messages, tools, model.defaults, choice=choice, parallel=request.parallel_tool_calls)
        if request.tool_choice not in ("auto", "none"):
            raise Refused(400, "`tool_choice` wants a call, and there are no `tools`", remedy="give the tools", param="tool_choice")
        if any(message.of_tools for message in request.messages):
            return ask_with_tools(tokenizer, messages, (), model.defaults, choice=Choice("none"))
        params = model.defaults
        if not isinstance(request.response_format, AsText):
            schema = request.response_format.json_schema.schema_ if isinstance(request.response_format, AsSchema) else {"type": "object"}
            params = replace(params, constraint=compile_constraint(tokenizer, json_schema(schema)))
    except ContractError as error:
        raise Refused(400, error.problem, remedy=error.remedy, param="tools" if request.tools else "response_format") from None
    return Asked(encode_chat(tokenizer, messages), params)
