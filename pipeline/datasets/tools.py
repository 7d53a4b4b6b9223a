"""Tools of a dataset: their registry, replayed results, and what may be wrong with a row's calls.

Here: canonical arguments, their digest, the part of JSON Schema that a registry may use, the check of rows. Not here: generating calls
(toolcalls.py), replaying while a model is evaluated (eval).
A registry is one JSON object, a tool's description and parameters by its name. A fixture is one line: `name`, `key` (canonical arguments), `digest`
and `result`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from interlock.canonical import canonical_json
from interlock.contracts.base import Frozen, Sha256
from interlock.contracts.dataset import Tools
from interlock.contracts.io import open_regular
from interlock.contracts.strict import MAX_BYTES, parse_json, shown, validate, validated
from interlock.errors import ContractError, Violation
from pipeline.datasets.reading import REMEDY, at, parsed, raw_lines
from pipeline.datasets.rows import Call, Row

REGISTRY, FIXTURES = "tools.json", "fixtures.jsonl"
_QUERIES = ("q", "query")  # folded as a search engine folds them: case and spacing decide nothing
_TYPES: dict[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,)}

Schema = Mapping[str, Any]


class Property(Frozen):
    """One argument of a tool."""

    type: Literal["string", "integer", "number", "boolean"]
    description: str | None = None
    enum: tuple[str | int, ...] | None = None
    minimum: float | int | None = None
    maximum: float | int | None = None
    default: str | int | float | bool | None = None


class Parameters(Frozen):
    """The arguments of a tool: the part of JSON Schema that llguidance, teachers and the check here understand alike."""

    type: Literal["object"] = "object"
    properties: dict[str, Property]
    required: tuple[str, ...] = ()
    additionalProperties: Literal[False] = False


class Tool(Frozen):
    description: str
    parameters: Parameters


class Fixture(Frozen):
    """The result of a call, found by its canonical arguments."""

    name: str
    key: dict[str, Any]
    digest: Sha256
    result: dict[str, Any]


Registry = Mapping[str, Tool]


def canonical(tool: Tool, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that mean the same in one form: no nulls, defaults filled in, search texts folded, whole numbers without a point."""
    given = {name: value for name, value in arguments.items() if value is not None}
    defaults = {name: one.default for name, one in tool.parameters.properties.items() if one.default is not None}
    found = {**defaults, **given}
    for name, value in found.items():
        if isinstance(value, str) and name in _QUERIES:
            found[name] = " ".join(value.split()).lower()
        elif isinstance(value, float) and value.is_integer():
            found[name] = int(value)
    return dict(sorted(found.items()))


def digest(name: str, key: Mapping[str, Any]) -> str:
    """What a fixture is found by: sha256 over the canonical JSON of the tool's name and canonical arguments."""
    return hashlib.sha256(canonical_json([name, key])).hexdigest()


def fixture(tool: Tool, call: Call, result: dict[str, Any]) -> Fixture:
    key = canonical(tool, call.arguments)
    return Fixture(name=call.name, key=key, digest=digest(call.name, key), result=result)


def answered(row: Row) -> Iterator[tuple[Call, str | None]]:
    """The calls of a dialogue, each with the message that answers it, or None."""
    messages = list(row.messages or ())
    for number, message in enumerate(messages):
        replies = [one.content for one in messages[number + 1 : number + 1 + len(message.calls or ())] if one.role == "tool"]
        for place, call in enumerate(message.calls or ()):
            yield call, replies[place] if place < len(replies) else None


def wrong_arguments(tool: Tool, arguments: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Where arguments are not what the tool takes: the argument, what is expected, what was found."""
    known = tool.parameters.properties
    yield from ((name, "an argument, because the tool requires it", "nothing") for name in tool.parameters.required if name not in arguments)
    for name, value in arguments.items():
        if name not in known:
            yield name, f"one of {', '.join(known)}", "another argument"
            continue
        one = known[name]
        if not isinstance(value, _TYPES[one.type]) or (isinstance(value, bool) and one.type != "boolean"):
            yield name, f"a value of type {one.type}", shown(value)
        elif one.enum is not None and value not in one.enum:
            yield name, f"one of {', '.join(map(str, one.enum))}", shown(value)
        elif isinstance(value, int | float) and one.minimum is not None and value < one.minimum:
            yield name, f"at least {one.minimum}", shown(value)
        elif isinstance(value, int | float) and one.maximum is not None and value > one.maximum:
            yield name, f"at most {one.maximum}", shown(value)


def pretty(registry: Registry) -> bytes:
    """A registry as it stands in a file."""
    document = {name: tool.model_dump(exclude_none=True) for name, tool in registry.items()}
    return json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"


def read_registry(file: Path) -> Registry:
    """The tools of a registry file by name. Raises ContractError."""
    with open_regular(file) as stream:
        document = parse_json(stream.read(MAX_BYTES + 1), str(file), remedy=REMEDY)
    return {name: validate(Tool, tool if isinstance(tool, dict) else {}, f"{file} at /{name}", remedy=REMEDY) for name, tool in document.items()}


def offered(directory: Path, tools: Tools | None, rows: Iterable[Row]) -> Registry:
    """The tools that dialogues among rows may call; none where there is no dialogue. Raises ContractError."""
    return read_registry(directory / tools.registry) if tools and any(row.messages for row in rows) else {}


def read_fixtures(files: Iterable[Path], registry: Registry) -> tuple[dict[str, Fixture], list[Violation]]:
    """Fixtures by their digest, and what is wrong with the others, by file and line."""
    found: dict[str, Fixture] = {}
    wrong: list[Violation] = []
    for file in files:
        for number, data in raw_lines(file):
            document, problems = parsed(file, number, data)
            if document is not None:
                one, bad = validated(Fixture, document, "")
                bad = [*bad, *(_strange(one, registry, found) if one else ())]
                problems = at(file, f"line {number}", bad)
                if one and not bad:
                    found[one.digest] = one
            wrong += problems
    return found, wrong


def _strange(one: Fixture, registry: Registry, found: Mapping[str, Fixture]) -> Iterator[Violation]:
    if one.name not in registry:
        yield Violation("", "/name", "a tool of the registry", shown(one.name))
        return
    if (key := canonical(registry[one.name], one.key)) != one.key:
        yield Violation("", "/key", f"canonical arguments: {json.dumps(key)}", shown(one.key))
    elif (true := digest(one.name, one.key)) != one.digest:
        yield Violation("", "/digest", f"{true} (of name and key)", one.digest)
    elif one.digest in found:
        yield Violation("", "/key", "each call once: a second result would never be replayed", "these arguments again")


def checker(directory: Path, tools: Tools) -> tuple[Callable[[Row], Iterable[Violation]], list[Violation]]:
    """The check of a row's calls by the dataset's tools, and what is wrong with these themselves."""
    try:
        registry = read_registry(directory / tools.registry)
    except ContractError as error:
        return (lambda row: ()), list(error.violations)
    fixtures, wrong = read_fixtures((directory / file for file in tools.fixtures), registry)
    return (lambda row: _wrong_calls(row, registry, fixtures)), wrong


def _wrong_calls(row: Row, registry: Registry, fixtures: Mapping[str, Fixture]) -> Iterator[Violation]:
    calls = list(answered(row))
    if calls and row.metadata.get("expected_behaviour") in ("no_tool", "decline"):
        yield Violation("", "/messages", "no call: it is a control", f"a call of `{calls[0][0].name}`")
    for call, reply in calls:
        if call.name not in registry:
            yield Violation("", f"/messages `{call.name}`", f"one of {', '.join(registry)}", "a tool that the registry does not have")
            continue
        bad = list(wrong_arguments(registry[call.name], call.arguments))
        yield from (Violation("", f"/messages `{call.name}` {name}", expected, found) for name, expected, found in bad)
        known = fixtures.get(digest(call.name, canonical(registry[call.name], call.arguments)))
        if not bad and known is None:
            yield Violation("", f"/messages `{call.name}`", "a fixture for these arguments", shown(call.arguments))
        elif known is not None and reply is not None and reply != canonical_json(known.result).decode():
            yield Violation("", f"/messages `{call.name}`", "the result of its fixture", shown(reply))
