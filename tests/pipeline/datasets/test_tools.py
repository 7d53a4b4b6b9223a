"""Canonical arguments, their check against a full JSON Schema implementation, and registries and fixtures that are not what they must be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jsonschema")
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from interlock.contracts import dataset
from pipeline.datasets import tools
from pipeline.datasets.rows import Call, Message, Row
from pipeline.datasets.tools import Parameters, Property, Tool
from pipeline.datasets.world import REGISTRY

pytestmark = pytest.mark.train

SEARCH = REGISTRY["web.search"]
TOOL = Tool(
    description="all kinds",
    parameters=Parameters(
        properties={
            "s": Property(type="string"),
            "e": Property(type="string", enum=("a", "b")),
            "i": Property(type="integer", minimum=0, maximum=10, default=3),
            "n": Property(type="number", minimum=-1.5),
            "b": Property(type="boolean"),
        },
        required=("s",),
    ),
)


@pytest.mark.parametrize(
    ("given_", "key"),
    [
        ({"q": "  ROPE  Precision  ", "site": None}, {"q": "rope precision", "top_k": 3}),  # the deployment guide's example
        ({"top_k": 5.0, "q": "a"}, {"q": "a", "top_k": 5}),
        ({"q": "a", "top_k": 3}, {"q": "a", "top_k": 3}),
    ],
)
def test_canonical_arguments(given_: dict[str, Any], key: dict[str, Any]) -> None:
    found = tools.canonical(SEARCH, given_)
    assert found == key and list(found) == sorted(key) and {type(value) for value in found.values()} == {str, int}
    assert tools.canonical(SEARCH, found) == found


values = (
    st.none() | st.booleans() | st.integers(-3, 12) | st.floats(-3, 12) | st.sampled_from(["a", "b", "c", ""]) | st.lists(st.integers(), max_size=1)
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["s", "e", "i", "n", "b", "x"]), values, max_size=5))
def test_arguments_are_refused_that_json_schema_refuses(arguments: dict[str, Any]) -> None:
    """But a whole number written with a point: JSON Schema calls 3.0 an integer, and here it is none before it is made canonical."""
    schema = {"type": "object", **TOOL.parameters.model_dump(exclude_none=True)}
    theirs = {error.path[0] if error.path else error.validator for error in Draft202012Validator(schema).iter_errors(arguments)}
    ours = {where for where, _, _ in tools.wrong_arguments(TOOL, arguments)}
    strict = {"i"} if isinstance(arguments.get("i"), float) else set()
    named = ({"required"} if "s" not in arguments else set()) | ({"additionalProperties"} if "x" in arguments else set())
    assert (ours - {"x"} - ({"s"} if "s" not in arguments else set())) | named == theirs | strict


def row(*messages: Message, **metadata: Any) -> Row:
    return Row(id="a", messages=(Message(role="user", content="?"), *messages), answer="x", metadata=metadata)


def called(name: str, arguments: dict[str, Any], reply: str | None = None) -> list[Message]:
    made = [Message(role="assistant", content="", calls=(Call(name=name, arguments=arguments),))]
    return made if reply is None else [*made, Message(role="tool", content=reply)]


@pytest.mark.parametrize(
    ("messages", "metadata", "expected"),
    [
        (called("web.search", {"q": "a"}, '{"count":0}'), {}, []),
        (called("web.search", {"q": " A", "top_k": 3.0}, '{"count":0}'), {}, ["a value of type integer"]),
        (called("web.search", {"q": "a"}), {"expected_behaviour": "no_tool"}, ["no call: it is a control"]),
        (called("web.find", {"q": "a"}), {}, ["one of web.search"]),
        (called("web.search", {}), {}, ["an argument, because the tool requires it"]),
        (called("web.search", {"q": "b"}), {}, ["a fixture for these arguments"]),
        (called("web.search", {"q": "a"}, '{"count":1}'), {}, ["the result of its fixture"]),
        (called("web.search", {"q": "a", "top_k": 11}), {}, ["at most 10"]),
    ],
)
def test_calls_of_rows(tmp_path: Path, messages: list[Message], metadata: dict[str, Any], expected: list[str]) -> None:
    (tmp_path / "tools.json").write_bytes(tools.pretty({"web.search": SEARCH}))
    one = tools.fixture(SEARCH, Call(name="web.search", arguments={"q": "A "}), {"count": 0})
    (tmp_path / "fixtures.jsonl").write_text(one.model_dump_json() + "\n")
    check, wrong = tools.checker(tmp_path, dataset.Tools(registry="tools.json", fixtures=("fixtures.jsonl",), source="generated"))
    assert wrong == [] and [one.expected for one in check(row(*messages, **metadata))] == expected


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"name": "web.find"}, "/name"),
        ({"key": {"q": "A", "top_k": 3}}, "/key"),
        ({"key": {"q": "b", "top_k": 3}}, "/digest"),
        ({"result": 1}, "/result"),
    ],
)
def test_fixtures_that_would_never_be_replayed_rightly(tmp_path: Path, changes: dict[str, Any], where: str) -> None:
    good = tools.fixture(SEARCH, Call(name="web.search", arguments={"q": "a"}), {"count": 0}).model_dump()
    (tmp_path / "fixtures.jsonl").write_text("".join(json.dumps(one) + "\n" for one in (good, good | changes)))
    found, wrong = tools.read_fixtures([tmp_path / "fixtures.jsonl"], {"web.search": SEARCH})
    assert len(found) == 1 and [one.where for one in wrong] == [f"line 2 {where}"]
    (tmp_path / "twice.jsonl").write_text(2 * (json.dumps(good) + "\n"))
    _, wrong = tools.read_fixtures([tmp_path / "twice.jsonl"], {"web.search": SEARCH})
    assert [one.where for one in wrong] == ["line 2 /key"]


def test_a_registry_beyond_the_part_of_json_schema_that_is_understood_is_told(tmp_path: Path) -> None:
    odd = {"f": {"description": "", "parameters": {"type": "object", "properties": {"x": {"type": "array"}}}}}
    (tmp_path / "tools.json").write_text(json.dumps(odd))
    (tmp_path / "fixtures.jsonl").write_text("")
    _, wrong = tools.checker(tmp_path, dataset.Tools(registry="tools.json", fixtures=("fixtures.jsonl",), source="recorded"))
    assert [(one.file, one.where) for one in wrong] == [(f"{tmp_path / 'tools.json'} at /f", "/parameters/properties/x/type")]
