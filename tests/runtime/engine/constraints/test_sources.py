"""What is refused, by its name and place, and that hostile descriptions cost bounded time."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from fakes.byte_tokenizer import byte_tokenizer

from interlock.errors import ContractError, InterlockError, UsageError
from runtime.engine.constraints import sources
from runtime.engine.constraints.compiled import compile_constraint
from runtime.engine.constraints.keywords import ENFORCED

pytestmark = pytest.mark.train

TOKENIZER = byte_tokenizer()
# The vocabularies of drafts 4 to 2020-12 that say what is valid.
ASSERTIONS = [
    "$ref", "$dynamicRef", "$recursiveRef", "allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependentRequired",
    "dependencies", "prefixItems", "items", "contains", "minContains", "maxContains", "additionalItems", "unevaluatedItems", "properties",
    "patternProperties", "additionalProperties", "propertyNames", "unevaluatedProperties", "type", "enum", "const", "multipleOf", "maximum",
    "exclusiveMaximum", "minimum", "exclusiveMinimum", "maxLength", "minLength", "pattern", "format", "maxItems", "minItems", "uniqueItems",
    "maxProperties", "minProperties", "required", "contentSchema",
]  # fmt: skip


def compiled(source: sources.Source) -> object:
    return compile_constraint(TOKENIZER, source)


@pytest.mark.parametrize("keyword", [*sorted(set(ASSERTIONS) - ENFORCED), "requird", "nullable", "discriminator", "x-guidance", "Type"])
def test_a_keyword_that_is_not_enforced_is_named_with_its_place(keyword: str) -> None:
    schema = {"type": "object", "properties": {"a": {"anyOf": [{"type": "array", "items": {keyword: {}}}]}}}
    with pytest.raises(UsageError, match="cannot be enforced") as refused:
        sources.json_schema(schema)
    assert f"`/properties/a/anyOf/0/items/{keyword}`" in refused.value.problem
    with pytest.raises(UsageError, match="cannot be enforced"):
        sources.lark(f"start: %json {sources.json.dumps(schema)}")


def test_names_and_values_are_not_keywords() -> None:
    named: dict[str, Any] = {"not": {"const": {"not": 1}}, "uniqueItems": {"enum": [{"if": 2}]}}
    compiled(sources.json_schema({"type": "object", "properties": named, "$defs": {"contains": {}}, "default": {"requird": 1}, "title": "t"}))


VALUES = {
    "$ref": "#/$defs/a", "allOf": [{}], "anyOf": [{}], "oneOf": [{"type": "null"}, {"type": "boolean"}], "prefixItems": [{}], "items": {},
    "additionalItems": {}, "properties": {}, "patternProperties": {"a": {}}, "additionalProperties": {}, "type": "string", "enum": [1], "const": 1,
    "multipleOf": 2, "maximum": 2, "exclusiveMaximum": 2, "minimum": 2, "exclusiveMinimum": 2, "maxLength": 2, "minLength": 2, "pattern": "a",
    "format": "date", "maxItems": 2, "minItems": 2, "maxProperties": 2, "minProperties": 2, "required": ["a"],
}  # fmt: skip


@pytest.mark.parametrize("keyword", sorted(set(ASSERTIONS) & ENFORCED))
def test_an_enforced_keyword_compiles(keyword: str) -> None:
    compiled(sources.json_schema({"$defs": {"a": {"type": "null"}}, keyword: VALUES[keyword]}))


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": "string", "format": "frob"}, "frob"),
        ({"$ref": "https://example.com/schema.json"}, "https://example.com/schema.json"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf"),
        ({"type": "string", "pattern": "^(?=a)"}, "look-around"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "minimum"),
        ({"type": "strin"}, "strin"),
        ({"$ref": "#"}, "nothing"),
    ],
)
def test_a_value_that_cannot_be_enforced_is_refused(schema: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match="the JSON schema cannot be enforced") as refused:
        compiled(sources.json_schema(schema))
    assert told == "nothing" or told in refused.value.problem


@pytest.mark.parametrize("source", [sources.regex("("), sources.regex(""), sources.lark("start: nothing"), sources.lark("no start")])
def test_wrong_syntax_and_empty_answers_are_refused(source: sources.Source) -> None:
    with pytest.raises(UsageError, match=f"the {source.kind} cannot be enforced"):
        compiled(source)


def test_choices_and_texts_that_are_none() -> None:
    for bad in ([], ["a", ""], ["\ud800"]):
        with pytest.raises(UsageError):
            sources.choices(bad)
    with pytest.raises(UsageError, match="131072 are allowed"):
        sources.regex("a" * (sources.SOURCE_BYTES + 1))
    with pytest.raises(ContractError, match="131072 bytes"):
        sources.json_schema({"enum": ["a" * sources.SOURCE_BYTES]})
    with pytest.raises(UsageError, match="not JSON"):
        sources.json_schema({"enum": [object()]})


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


HOSTILE = {
    "a product of alternatives": lambda: sources.json_schema(
        {"allOf": [{"anyOf": [{"properties": {f"p{i}{j}": {"type": "string"}}} for j in range(10)]} for i in range(10)]}
    ),
    "a thousand optional fields": lambda: sources.json_schema({"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(1000)}}),
    "lists in lists": lambda: sources.json_schema(nested(2000)),
    "lists in lists, too deep for Python": lambda: sources.json_schema(nested(100_000)),
    "an automaton with 2^60 states": lambda: sources.regex(".*a.{30}.*b.{30}"),
    "repeats in repeats": lambda: sources.regex("(((a{1,100}){1,100}){1,100}){1,100}"),
    "a hundred thousand letters": lambda: sources.regex("a{100000}b"),
    "brackets": lambda: sources.regex("(" * 60_000 + ")" * 60_000),
    "brackets of a grammar": lambda: sources.lark("start: " + "(" * 60_000 + '"a"' + ")" * 60_000),
    "doubling": lambda: sources.lark("start: r0\n" + "\n".join(f"r{i}: r{i + 1} r{i + 1}" for i in range(40)) + '\nr40: "a"'),
    "a rule that begins with itself": lambda: sources.lark("start: start"),
    "ambiguity": lambda: sources.lark('start: s\ns: s s | "a" | "aa" |'),
    "ten thousand choices": lambda: sources.choices([f"choice {i}" for i in range(9_000)]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_description_is_refused_or_costs_little(name: str) -> None:
    """On an idle core each takes under half a second; a token is bounded by llguidance's fuel, 20 ms at its speed."""
    started = time.process_time()
    try:
        matcher = compile_constraint.__wrapped__(TOKENIZER, HOSTILE[name]())()
        for _ in range(20):
            matcher.forced()
            if matcher.complete:
                break
            matcher.accept(int(np.flatnonzero(matcher.allowed())[-1]))
    except InterlockError as refused:
        assert refused.remedy
    assert time.process_time() - started < 5


def test_equal_descriptions_are_compiled_once_for_a_tokenizer() -> None:
    first = compile_constraint(TOKENIZER, sources.json_schema({"type": "object", "properties": {"a": {"const": 1}}}))
    assert compile_constraint(TOKENIZER, sources.json_schema({"type": "object", "properties": {"a": {"const": 1}}})) is first
    assert compile_constraint(byte_tokenizer(), sources.json_schema({"type": "object", "properties": {"a": {"const": 1}}})) is not first
    one, other = first(), first()
    one.forced()
    assert other.allowed()[TOKENIZER.encode("{")[0]] and not one.complete  # a turn's state is its own
