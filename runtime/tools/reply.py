"""A conversation with tools to a reply with calls, over any backend.

Here: prompt, grammar, one turn, the calls read from it. Not here: each of these; running a tool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from runtime.engine.chat import Message, encode_chat
from runtime.engine.constraints.compiled import compile_constraint
from runtime.engine.tokenizer import Tokenizer
from runtime.engine.turn import GenerationParams
from runtime.tools.definitions import Choice, Tool
from runtime.tools.grammar import mark_ids, reply_source
from runtime.tools.prompt import tool_prompt


@dataclass(frozen=True)
class Asked:
    """What a turn is begun with: the prompt's ids, and parameters that hold the reply to the tools."""

    prompt_ids: list[int]
    params: GenerationParams


def ask_with_tools(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    tools: Sequence[Tool],
    params: GenerationParams,
    *,
    choice: Choice = Choice(),  # noqa: B008 - frozen
    parallel: bool = True,
    variables: Mapping[str, Any] | None = None,
) -> Asked:
    """A reply that may call `tools` as `choice` says; with mode `none` they are not even told. `variables`: what else the template may read.

    Raises as `tool_prompt`, `encode_chat` and `compile_constraint`.
    """
    prompt = tool_prompt(tokenizer, messages, tools if choice.mode != "none" else ())
    ids = encode_chat(tokenizer, prompt.messages, variables={**(variables or {}), **prompt.variables})
    source = reply_source(tokenizer, tools, choice, prompt.form, parallel=parallel)
    if source is None:
        return Asked(ids, params)
    shown = tuple(mark_ids(tokenizer).values())
    return Asked(ids, replace(params, constraint=compile_constraint(tokenizer, source), shown=shown))
