"""Calls are found in replies of every form, each once, and everything else stays text."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.tools.calls import parse_reply, value_end

pytestmark = pytest.mark.train

values = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=6), lambda inner: st.lists(inner, max_size=3) |
                      st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=8)  # fmt: skip
arguments = st.dictionaries(st.text(max_size=4), values, max_size=3)
W = {"name": "w", "arguments": {"a": '}]{ \\" </tool_call>'}}
J = json.dumps(W)


@pytest.mark.parametrize(
    ("text", "words", "calls"),
    [
        (f"<tool_call>{J}</tool_call>", "", 1),
        (f"<tool_call>\n{J}\n</tool_call>\n<tool_call>\n{J}\n</tool_call>", "", 2),
        (f"<tool_call>[{J}, {J}]</tool_call>", "", 2),
        ("<tool_call>[]</tool_call>", "", 0),
        (f"I look. TOOL_CALL: {J} Done.", "I look.  Done.", 1),
        (f"Yes:\n```json\n{J}\n```", "Yes:", 1),
        (f"Use {J} now", "Use  now", 1),
        (f"<tool_call>{J}", "", 1),
        ('{"name": "w", "arguments": "{\\"a\\": 1}"}', "", 1),
        ("<tool_call>{\"name\": 1}</tool_call>", "<tool_call>{\"name\": 1}</tool_call>", 0),
        ("```json\n[]\n``` and [1, 2] and {\"a\": {}}", "```json\n[]\n``` and [1, 2] and {\"a\": {}}", 0),
        (f"[{J}]", "[]", 1),
        ('{"name": "w", "arguments": {"a": NaN}}', '{"name": "w", "arguments": {"a": NaN}}', 0),
        ('<tool_call>{"name": "w", "arguments": {"a": "cut', '<tool_call>{"name": "w", "arguments": {"a": "cut', 0),
        ("no calls { here ] \"", "no calls { here ] \"", 0),
    ],
)  # fmt: skip
def test_forms(text: str, words: str, calls: int) -> None:
    reply = parse_reply(text)
    assert (reply.text, len(reply.calls)) == (words, calls)
    assert all(call.name == "w" for call in reply.calls)


@pytest.mark.parametrize(
    ("text", "unread"),
    [
        (f"<tool_call>{J}</tool_call> and TOOL_CALL: {J}", 0),
        ("<tool_call>[]</tool_call>", 0),
        ('```json\n{"x": 1}\n```', 0),
        (f"<tool_call>[{J},]</tool_call>", 1),
        ('<tool_call>{"name": "w"}</tool_call>', 1),
        ("<tool_call>", 1),
        ("<tool_call>" + "[" * 50_000, 1),
        ("TOOL_CALL: w(a)", 1),
    ],
)
def test_marks_behind_which_nothing_could_be_read_are_counted(text: str, unread: int) -> None:
    assert parse_reply(text).unread == unread


@given(st.lists(st.tuples(st.text("ab.-", min_size=1, max_size=5), arguments), min_size=1, max_size=3), st.text("xyz {[\n", max_size=10))
def test_what_was_written_is_read(calls: list[tuple[str, dict[str, Any]]], words: str) -> None:
    blocks = "".join(f"<tool_call>{json.dumps({'name': name, 'arguments': given})}</tool_call>" for name, given in calls)
    reply = parse_reply(words + blocks)
    assert [(call.name, call.arguments) for call in reply.calls] == calls
    assert reply.text == words.strip()
    spans = [call.span for call in reply.calls]
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))


@given(st.one_of(st.lists(values, max_size=3), arguments), st.text(max_size=5))
def test_a_value_ends_where_it_does(value: object, rest: str) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assert value_end(text + rest, 0) == len(text)
    assert value_end(text[:-1], 0) is None


@pytest.mark.parametrize("text", ["{" * 40_000, '{"' * 30_000, '{"a":' * 10_000, "<tool_call>{" * 5_000, "[{]" * 20_000])
def test_a_reply_of_brackets_takes_time_in_proportion_to_its_length(text: str) -> None:
    started = time.process_time()
    assert parse_reply(text).calls == ()
    assert time.process_time() - started < 3  # about 0.2 s on an idle core
