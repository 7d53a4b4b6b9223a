"""Tools and replayed results: what a tool takes, one form for arguments that mean the same, what a result is found by.

Here: records and pure functions. Not here: files of them (pipeline/datasets/tools.py reads and proves, replay.py opens), replaying (replay.py).
The part of JSON Schema that a registry may use is the one that constrained decoding, teachers and the check here understand alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Protocol

from interlock.canonical import canonical_json
from interlock.contracts.base import Frozen, Sha256
from interlock.contracts.strict import shown

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


class Called(Protocol):
    """A call, whoever made it."""

    @property
    def name(self) -> str: ...

    @property
    def arguments(self) -> Mapping[str, Any]: ...


def fixture(tool: Tool, call: Called, result: dict[str, Any]) -> Fixture:
    key = canonical(tool, call.arguments)
    return Fixture(name=call.name, key=key, digest=digest(call.name, key), result=result)


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
