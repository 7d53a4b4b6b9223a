"""Definitions of tools are checked whole, and a choice names one that is there."""

from __future__ import annotations

import random
from typing import Any

import pytest
from fakes.schemas import random_tools

from interlock.errors import ContractError, UsageError
from runtime.tools.definitions import Choice, parse_choice, parse_tools

pytestmark = pytest.mark.train


def tool(name: object = "a", **function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **function}}


def test_every_violation_is_told_with_its_place() -> None:
    wrong = [
        {"type": "retrieval"},
        tool("a b"),
        tool("a", parameters={"type": "array"}, descripton="typo"),
        tool("b", parameters={"type": "object", "properties": {"x": {"uniqueItems": True}}}),
        tool("c", description=1, strict="yes"),
    ]
    with pytest.raises(ContractError) as refused:
        parse_tools(wrong, "tools.json")
    places = [violation.where for violation in refused.value.violations]
    assert places == ["/0", "/1/function/name", "/2/function/descripton", "/2/function/parameters", "/3/function/parameters",
                      "/4/function/description", "/4/function/strict"]  # fmt: skip
    assert "`/properties/x/uniqueItems`" in refused.value.violations[4].found


@pytest.mark.parametrize("documents", [[], {}, None, [tool()] * 129, [tool(), tool("b"), tool()]])
def test_none_too_many_and_twice_the_same_name_are_refused(documents: object) -> None:
    with pytest.raises(ContractError):
        parse_tools(documents)


def test_a_tool_without_parameters_takes_none_and_a_document_comes_back() -> None:
    made = parse_tools([tool("web.search", strict=False, description=None)])
    assert made[0].parameters == {"type": "object", "properties": {}, "additionalProperties": False}
    for seed in range(20):
        documents = random_tools(random.Random(seed))
        assert [one.document() for one in parse_tools(documents)] == documents


def test_choices() -> None:
    tools = parse_tools([tool("a"), tool("b")])
    assert [parse_choice(mode, tools).mode for mode in ("auto", "none", "required")] == ["auto", "none", "required"]
    named = parse_choice({"type": "function", "function": {"name": "b"}}, tools)
    assert named == Choice("required", "b") and [one.name for one in named.of(tools)] == ["b"]
    assert Choice("none").of(tools) == () and Choice().of(tools) == tools
    for bad in ("any", None, {"type": "function"}, {"type": "function", "function": {"name": "c"}}):
        with pytest.raises(UsageError, match="tool_choice"):
            parse_choice(bad, tools)
