"""Descriptions of what an answer may be, in the form that llguidance reads.

Here: JSON schemas, regular expressions, Lark grammars and choices, their limits. Not here: compiling one for a tokenizer (compiled.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from llguidance import LLMatcher

from interlock.contracts.strict import parse_json
from interlock.errors import UsageError
from runtime.engine.constraints.keywords import refused_keywords

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

Kind = Literal["JSON schema", "regular expression", "grammar", "choices"]

# A schema of 128 KB has up to 5,000 properties: as many as OpenAI takes, and 1.5 s to compile.
SOURCE_BYTES = 128 << 10
_SCHEMA_REMEDY = "leave it out, or say it in the description; docs/tools.md lists the keywords"
# As `json.dumps` and most chat templates write: models have read most JSON in this form. No other white space: a weak model would write it for ever.
JSON_FORM: JsonCompileOptions = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ", "lenient": False}
_EMBEDDED_SCHEMA = re.compile(r"%json\s*(?=\{)")


@dataclass(frozen=True)
class Source:
    """A description. `grammar`: what llguidance compiles. Equal ones are compiled once for a tokenizer."""

    kind: Kind
    grammar: str


def json_schema(schema: Mapping[str, Any]) -> Source:
    """An answer that is one JSON value of `schema` (2020-12, or the draft that it names), keys in the schema's order.

    Raises ContractError for what is not strict JSON or is too large, UsageError for keywords that cannot be enforced, each by its place."""
    return Source("JSON schema", LLMatcher.grammar_from_json_schema(_checked(schema), overrides=JSON_FORM))


def regex(pattern: str) -> Source:
    """An answer that is matched by `pattern` as a whole; the syntax is that of Rust's regex, without look-around. Raises UsageError."""
    return Source("regular expression", LLMatcher.grammar_from_regex(_sized(pattern, "regular expression")))


def lark(text: str) -> Source:
    """An answer of a grammar in llguidance's form of Lark, from rule `start` on. JSON schemas in it have no other keywords than `json_schema` takes.

    Raises UsageError."""
    decoder = json.JSONDecoder()
    for found in _EMBEDDED_SCHEMA.finditer(_sized(text, "grammar")):
        try:
            schema, _ = decoder.raw_decode(text, found.end())
        except (ValueError, RecursionError):
            raise UsageError("a `%json` of the grammar is not JSON", remedy="correct what follows it") from None
        _check_keywords(schema)
    return Source("grammar", LLMatcher.grammar_from_lark(text))


def composed(rules: Sequence[str]) -> Source:
    """A grammar of ours, in which descriptions from elsewhere stand as `schema_text` writes them. Raises UsageError for one that is too large."""
    return Source("grammar", LLMatcher.grammar_from_lark(_sized("\n".join(rules), "grammar")))


def schema_text(schema: Mapping[str, Any]) -> str:
    """What stands for a value of `schema` in a composed grammar. Raises as `json_schema`."""
    return f"%json {json.dumps({**_checked(schema), 'x-guidance': JSON_FORM}, ensure_ascii=False)}"


def choices(texts: Sequence[str]) -> Source:
    """An answer that is one of `texts`, character for character. Raises UsageError for none, and for an empty one."""
    for text in texts:
        _sized(text, "choices")
    if not texts or "" in texts:
        raise UsageError("there is nothing to choose from" if not texts else "a choice is empty", remedy="give texts of at least one character")
    # An expression: alternatives of a grammar's rule would each be an item of the parser, of which there may be 2,000.
    pattern = "|".join("".join(map(_literal, text)) for text in dict.fromkeys(texts))
    return Source("choices", LLMatcher.grammar_from_regex(_sized(pattern, "choices")))


def _literal(char: str) -> str:
    return char if char.isascii() and char.isalnum() else f"\\x{{{ord(char):x}}}"


def _checked(schema: Mapping[str, Any]) -> dict[str, Any]:
    try:
        data = json.dumps(schema).encode()
    except (TypeError, ValueError, RecursionError):
        raise UsageError("the JSON schema is not JSON", remedy="give an object of strings, numbers, lists and objects") from None
    checked = parse_json(data, "JSON schema", limit=SOURCE_BYTES, remedy="simplify the schema")
    _check_keywords(checked)
    return checked


def _check_keywords(schema: Any) -> None:
    if refused := list(refused_keywords(schema)):
        shown = ", ".join(f"`{place}`" for place in refused[:10]) + (f" and {len(refused) - 10} more" if len(refused) > 10 else "")
        raise UsageError(f"the JSON schema cannot be enforced: {shown}", remedy=_SCHEMA_REMEDY)


def _sized(text: str, kind: Kind) -> str:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise UsageError(f"the {kind} is not Unicode", remedy="give text in UTF-8") from None
    if size > SOURCE_BYTES:
        raise UsageError(f"the {kind} has {size} bytes, {SOURCE_BYTES} are allowed", remedy="shorten it")
    return text
