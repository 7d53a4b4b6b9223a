"""The guide's `generate_tool_call`: one prompt, a list of tools, the call that the model makes.

Here: that function and the probability of halting, as plain values. Not here: what they stand on (runtime/tools, runtime/engine).
    from runtime.load import load
    from runtime.generate_coreml import generate_tool_call
    loaded = load("models/student/deployed", backend="coreml")
    generate_tool_call(loaded.backend, loaded.tokenizer, "What is the weather in Paris?", tools)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from interlock.errors import StageFailed, UsageError
from runtime.backends.protocol import Backend, CacheT, Step
from runtime.engine.generate import advance
from runtime.engine.latent import halt_probability
from runtime.engine.tokenizer import Tokenizer
from runtime.engine.turn import GenerationParams, Turn
from runtime.tools.calls import parse_reply
from runtime.tools.definitions import Choice, parse_tools
from runtime.tools.reply import ask_with_tools

MAX_NEW_TOKENS = 512  # the guide's


def generate_tool_call(
    model: Backend[CacheT], tokenizer: Tokenizer, prompt: str, tools: object, device: str | None = None, return_halt_logits: bool = False
) -> dict[str, Any]:
    """One call of one of `tools` (OpenAI's form), greedily: `{"name", "arguments"}`, valid against the tool's schema; JSON can hold all of it.

    With `return_halt_logits` also `"halt_logits"`: `[continue, halt]` after the last step.
    `device`: None or `"cpu"`: a model runs where it was loaded.

    Raises ContractError for wrong definitions, UsageError for another device, a model without a chat template or without the halt head that is asked
    for, and StageFailed where 512 tokens, or the model's positions, do not suffice for a call.
    """
    if device not in (None, "cpu"):
        raise UsageError(f"device `{device}`", remedy="leave it out: where a model runs is chosen when it is loaded (`load(DIR, backend, units=…)`)")
    params = GenerationParams(max_new_tokens=MAX_NEW_TOKENS, eos_ids=tokenizer.info.eos_ids)
    messages = [{"role": "user", "content": prompt}]
    asked = ask_with_tools(tokenizer, messages, parse_tools(tools), params, choice=Choice("required"), parallel=False)
    turn = Turn(tokenizer, asked.prompt_ids, asked.params, model.capacity)
    cache, halt_logits = model.new_cache(), None
    while turn.reason is None:
        step = advance(model, cache, turn.inputs)
        halt_logits = step.halt_logits
        turn.take(step)
    made = turn.result()
    calls = parse_reply(made.text).calls
    if not calls:
        remedy = "shorten the prompt, or bound texts and lists in the tools' schemas (`maxLength`, `maxItems`)"
        raise StageFailed(f"no whole call after {len(made.tokens)} tokens ({made.reason})", remedy=remedy)
    result: dict[str, Any] = {"name": calls[0].name, "arguments": calls[0].arguments}
    if return_halt_logits:
        if halt_logits is None:
            raise UsageError("the model has no halt head", remedy="leave out return_halt_logits, or deploy a student that has one")
        result["halt_logits"] = [float(value) for value in halt_logits]
    return result


def compute_halt_probability(halt_logits: Sequence[float]) -> float:
    """The probability of halting that `halt_logits` say, from 0 to 1."""
    nothing = np.empty(0, np.float32)
    return halt_probability(Step(nothing, np.asarray(halt_logits, np.float32), nothing))
