"""Tools of a dataset: their registry and replayed results as files, and what may be wrong with a row's calls.

Here: reading and writing registries and fixtures with every violation, the check of rows. Not here: what a tool and a fixture are
(eval/broker/tools.py), generating calls (toolcalls.py), replaying while a model is evaluated (eval/broker).
A registry is one JSON object, a tool's description and parameters by its name. A fixture is one line: `name`, `key` (canonical arguments), `digest`
and `result`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from eval.broker.tools import Fixture, Parameters, Property, Registry, Tool, canonical, digest, fixture, wrong_arguments
from interlock.canonical import canonical_json
from interlock.contracts.dataset import Tools
from interlock.contracts.io import open_regular
from interlock.contracts.strict import MAX_BYTES, parse_json, shown, validate, validated
from interlock.errors import ContractError, Violation
from pipeline.datasets.reading import REMEDY, at, parsed, raw_lines
from pipeline.datasets.rows import Call, Row

__all__ = [
    "FIXTURES",
    "REGISTRY",
    "Fixture",
    "Parameters",
    "Property",
    "Registry",
    "Tool",
    "answered",
    "canonical",
    "checker",
    "digest",
    "fixture",
    "pretty",
    "read_fixtures",
    "read_registry",
    "wrong_arguments",
]

REGISTRY, FIXTURES = "tools.json", "fixtures.jsonl"


def answered(row: Row) -> Iterator[tuple[Call, str | None]]:
    """The calls of a dialogue, each with the message that answers it, or None."""
    messages = list(row.messages or ())
    for number, message in enumerate(messages):
        replies = [one.content for one in messages[number + 1 : number + 1 + len(message.calls or ())] if one.role == "tool"]
        for place, call in enumerate(message.calls or ()):
            yield call, replies[place] if place < len(replies) else None


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
