"""Replies of a model that wants something else each time are held to their tools, and read the same whole and in pieces."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import jsonschema
import numpy as np
import pytest
from fakes.byte_tokenizer import CHATML, CONTROL, byte_tokenizer, info_of, tokenizer_json
from fakes.function_backend import FunctionBackend
from fakes.schemas import random_tools
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.errors import StageFailed, UsageError
from runtime.engine.constraints.compiled import compile_constraint
from runtime.engine.generate import generate
from runtime.engine.sampling import SamplingParams
from runtime.engine.tokenizer import Tokenizer
from runtime.engine.turn import Generation, GenerationParams
from runtime.generate_coreml import compute_halt_probability, generate_tool_call
from runtime.tools.calls import parse_reply
from runtime.tools.definitions import Choice, Tool, parse_tools
from runtime.tools.grammar import BLOCKS, LIST, Form, mark_ids, reply_source
from runtime.tools.reply import ask_with_tools
from runtime.tools.stream import CallStream, Delta

pytestmark = pytest.mark.train

PLAIN = byte_tokenizer()
MARKED = Tokenizer(MARKED_JSON := tokenizer_json(control=(*CONTROL, "<tool_call>", "</tool_call>")), info_of(MARKED_JSON), chat_template=CHATML)
FORMS = (LIST, BLOCKS, Form("<tool_call>", "</tool_call><tool_call>", "</tool_call>"))
SIZE, EOS = MARKED.vocab_size, PLAIN.info.eos_ids
MESSAGES = [{"role": "user", "content": "weather?"}]


def dice(seed: int, end: float = 0.0) -> FunctionBackend:
    """`end`: how much more than anything else it wants to end."""

    def logits_of(ids: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
        logits = np.random.default_rng([seed, *ids[-60:], len(ids)]).normal(size=SIZE).astype(np.float32)
        logits[list(EOS)] += end
        return logits

    return FunctionBackend(logits_of, capacity=9000)


def replied(
    tools: tuple[Tool, ...], seed: int, choice: Choice, *, form: Form = LIST, parallel: bool = True, end: float = 0.0, tokenizer: Tokenizer = PLAIN
) -> Generation:
    """To a prompt of one token: rendering a template is a process for each."""
    source = reply_source(tokenizer, tools, choice, form, parallel=parallel)
    assert source
    params = GenerationParams(SamplingParams(temperature=1.0, seed=seed), 4000, eos_ids=EOS, shown=tuple(mark_ids(tokenizer).values()))
    return generate(dice(seed, end), tokenizer, [0], replace(params, constraint=compile_constraint(tokenizer, source)))


def check(made: Generation, tools: tuple[Tool, ...]) -> int:
    """How many calls there are, all of them valid."""
    assert made.reason in ("complete", "eos"), made.text[-200:]
    reply = parse_reply(made.text)
    schemas = {tool.name: tool.parameters for tool in tools}
    for call in reply.calls:
        jsonschema.validate(call.arguments, schemas[call.name])
    return len(reply.calls)


@pytest.mark.parametrize("seed", range(100))
def test_a_required_call_is_valid(seed: int) -> None:
    """A tenth of what `python -m benchmarks.constrained` does."""
    tools = parse_tools(random_tools(random.Random(seed)))
    made = replied(tools, seed, Choice("required"), form=FORMS[seed % 3], tokenizer=(PLAIN, MARKED)[seed // 3 % 2], parallel=seed % 4 > 0)
    calls = check(made, tools)
    assert calls == 1 if seed % 4 == 0 else calls >= 1
    assert parse_reply(made.text).text == ""


def test_a_named_tool_is_the_only_one_and_none_is_not_even_told() -> None:
    tools = parse_tools([*random_tools(random.Random(5)), {"type": "function", "function": {"name": "other"}}])
    for seed in range(5):
        made = replied(tools, seed, Choice("required", "other"))
        assert {call.name for call in parse_reply(made.text).calls} == {"other"} and check(made, tools)
    asked = ask_with_tools(PLAIN, MESSAGES, tools, GenerationParams(), choice=Choice("none"))
    assert asked.params.constraint is None and "other" not in PLAIN.decode(asked.prompt_ids)
    assert "other" in PLAIN.decode(ask_with_tools(PLAIN, MESSAGES, tools, GenerationParams()).prompt_ids)


def test_with_auto_words_end_by_themselves_and_a_mark_begins_a_valid_call() -> None:
    tools = parse_tools(random_tools(random.Random(3)))
    assert parse_reply(replied(tools, 1, Choice(), end=9.0).text).calls == ()
    asked = ask_with_tools(PLAIN, MESSAGES, tools, GenerationParams(SamplingParams(temperature=1.0, seed=2), 4000, eos_ids=EOS))
    backend, start, wanted = dice(7), len(asked.prompt_ids), b"I look <tool_call>"
    rolled = backend.logits_of

    def logits_of(ids: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
        logits = rolled(ids)
        said = len(ids) - start
        if said < len(wanted):
            logits[PLAIN.encode(chr(wanted[said]))[0]] += 99
        return logits

    backend.logits_of = logits_of
    made = generate(backend, PLAIN, asked.prompt_ids, asked.params)
    assert made.text.startswith('I look <tool_call>[{"name": "')
    assert check(made, tools) >= 1 and parse_reply(made.text).text == "I look"


def joined(deltas: list[Delta]) -> tuple[str, list[tuple[str, str]]]:
    words, calls = "", []
    for delta in deltas:
        words += delta.text
        if delta.name is not None:
            assert delta.index == len(calls)
            calls.append((delta.name, ""))
        if delta.arguments:
            name, said = calls[-1]
            calls[-1] = (name, said + delta.arguments)
    return words, calls


@given(st.integers(0, 40), st.lists(st.integers(1, 9), min_size=1, max_size=30), st.sampled_from(["", "Let me see < <tool", "ok\n"]))
@settings(max_examples=40, deadline=None)
def test_streamed_calls_are_those_of_the_whole_reply(seed: int, cuts: list[int], before: str) -> None:
    tools = parse_tools(random_tools(random.Random(seed)))
    text = before + replied(tools, seed, Choice("required"), form=FORMS[seed % 3], tokenizer=(PLAIN, MARKED)[seed // 3 % 2]).text
    stream, deltas, at, turn = CallStream(), list[Delta](), 0, 0
    while at < len(text):
        deltas += stream.push(text[at : at + cuts[turn % len(cuts)]])
        at, turn = at + cuts[turn % len(cuts)], turn + 1
    deltas += stream.finish()
    words, calls = joined(deltas)
    whole = parse_reply(text)
    assert words.strip() == whole.text
    assert [(name, json.loads(said)) for name, said in calls] == [(call.name, call.arguments) for call in whole.calls]


def test_a_stream_passes_words_on_at_once_and_arguments_as_they_come() -> None:
    stream = CallStream()
    assert stream.push("Hi <") == [Delta(text="Hi ")]
    assert stream.push('b> <tool_call>[{"na') == [Delta(text="<b> ")]
    assert stream.push('me": "w", "arguments": {"a": "}') == [Delta(index=0, name="w"), Delta(index=0, arguments='{"a": "}')]
    assert stream.push('"}}]</tool_call>') == [Delta(index=0, arguments='"}')]
    assert stream.push("x<tool_call>{\"arguments\": {}, \"name\": \"v\"}</tool_call>") == [
        Delta(text="x"), Delta(index=1, name="v"), Delta(index=1, arguments="{}")]  # fmt: skip
    assert stream.push("<tool_call>nonsense</tool_call><tool_call>cut") == [Delta(text="<tool_call>nonsense</tool_call>")]
    assert stream.finish() == [Delta(text="<tool_call>cut")]


TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {
    "type": "object", "properties": {"unit": {"enum": ["c", "f"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["unit", "days"], "additionalProperties": False}}}  # fmt: skip


def test_the_guides_function_returns_a_call_that_json_can_hold() -> None:
    backend = dice(3)
    backend.halt_of = lambda ids: np.array([1.0, 3.0], np.float32)
    made = generate_tool_call(backend, PLAIN, "weather?", [TOOL], return_halt_logits=True)
    assert json.loads(json.dumps(made)) == made and made["halt_logits"] == [1.0, 3.0]
    assert compute_halt_probability(made["halt_logits"]) == pytest.approx(1 / (1 + np.exp(-2)))
    assert made["name"] == "get_weather"
    jsonschema.validate(made["arguments"], TOOL["function"]["parameters"])  # type: ignore[index]
    assert generate_tool_call(backend, PLAIN, "weather?", [TOOL], device="cpu").keys() == {"name", "arguments"}
    with pytest.raises(UsageError, match="device `mps`"):
        generate_tool_call(backend, PLAIN, "weather?", [TOOL], device="mps")
    with pytest.raises(UsageError, match="no halt head"):
        generate_tool_call(dice(3), PLAIN, "weather?", [TOOL], return_halt_logits=True)
    text = {"type": "string", "minLength": 999}
    endless = {"name": "t", "parameters": {"type": "object", "properties": {"a": text}, "required": ["a"]}}
    with pytest.raises(StageFailed, match="no whole call after 512 tokens"):
        generate_tool_call(dice(3), PLAIN, "?", [{"type": "function", "function": endless}])
