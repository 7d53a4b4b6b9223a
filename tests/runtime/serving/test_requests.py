"""Bodies: what the OpenAPI document allows is read, what it does not is refused, and nothing else can come of any bytes."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.serving.openapi import DOCUMENT
from runtime.serving.refusals import Refused
from runtime.serving.requests import UNSUPPORTED, ChatRequest, CompletionRequest, read

pytestmark = pytest.mark.train

KINDS: dict[str, Any] = {"ChatRequest": ChatRequest, "CompletionRequest": CompletionRequest}
SCHEMAS = {name: jsonschema.Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}) for name in KINDS}
NAMES = sorted({name for kind in KINDS.values() for name in kind.model_fields} | set(UNSUPPORTED) | {"nonsense"})
words = st.sampled_from(["", "a", "student", "user", "tool", "auto", "text", "json_object"])
small = st.one_of(st.none(), st.booleans(), st.integers(-2, 30), st.sampled_from([0.5, -0.5, 1.5, 3.0, 1e9]), words)
message = st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant", "tool", "judge"])}, optional={
    "content": st.one_of(words, st.none(), st.just([{"type": "text", "text": "a"}]), st.just([])), "tool_call_id": words, "name": words})  # fmt: skip
values = st.one_of(small, st.lists(small, max_size=3), st.dictionaries(words, small, max_size=2), st.lists(message, max_size=3))
sound: dict[str, dict[str, Any]] = {
    "ChatRequest": {"model": "m", "messages": [{"role": "user", "content": "a"}]},
    "CompletionRequest": {"model": "m", "prompt": "a"},
}


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(sorted(KINDS)), changes=st.dictionaries(st.sampled_from(NAMES), values, max_size=3))
def test_the_document_says_what_is_read(name: str, changes: dict[str, Any]) -> None:
    body = {**sound[name], **changes}
    allowed = SCHEMAS[name].is_valid(body)
    try:
        read(KINDS[name], json.dumps(body).encode())
        assert allowed, body
    except Refused as refused:
        # Between fields there are rules that a schema of fields does not have; they are told in words of ours.
        assert refused.status == 400 and (not allowed or "Value error" in refused.problem), (refused.problem, body)


@settings(max_examples=50, deadline=None)
@given(name=st.sampled_from(sorted(KINDS)), data=st.binary(max_size=20), place=st.integers(0, 80), alone=st.booleans())
def test_any_bytes_are_read_or_refused(name: str, data: bytes, place: int, alone: bool) -> None:
    whole = json.dumps(sound[name]).encode()
    try:
        read(KINDS[name], data if alone else whole[:place] + data + whole[place:])
    except Refused as refused:
        assert refused.status == 400 and len(refused.problem) < 2000
