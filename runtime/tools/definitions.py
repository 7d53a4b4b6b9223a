"""Function definitions in OpenAI's form, and which of them a reply may call.

Here: what a definition may be. Not here: how it is told to a model (prompt.py) or enforced (grammar.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from interlock.errors import ContractError, InterlockError, UsageError, Violation
from runtime.engine.constraints.sources import json_schema

MAX_TOOLS = 128  # as many as OpenAI takes
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")  # OpenAI's, and the dot of names like `web.search`
_REMEDY = 'each tool is {"type": "function", "function": {"name": …, "description": …, "parameters": {"type": "object", …}}}'
_NO_PARAMETERS = {"type": "object", "properties": {}, "additionalProperties": False}


@dataclass(frozen=True)
class Tool:
    """A function that a model may call. `parameters`: the JSON schema of its arguments, an object's."""

    name: str
    description: str
    parameters: Mapping[str, Any]

    def document(self) -> dict[str, Any]:
        """OpenAI's form, which chat templates expect."""
        return {"type": "function", "function": {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}}


def parse_tools(documents: object, where: str = "tools") -> tuple[Tool, ...]:
    """Definitions from JSON, at least one. `where`: the file or field that they are from. Raises ContractError with every violation."""
    if not isinstance(documents, list) or not 1 <= len(documents) <= MAX_TOOLS:
        found = f"{len(documents)} tools" if isinstance(documents, list) else f"a JSON {type(documents).__name__}"
        raise ContractError(Violation(where, "", f"a list of 1 to {MAX_TOOLS} tools", found), remedy=_REMEDY)
    wrong = [Violation(where, f"/{i}{place}", expected, found) for i, tool in enumerate(documents) for place, expected, found in _violations(tool)]
    if not wrong:
        names = [document["function"]["name"] for document in documents]
        wrong = [Violation(where, f"/{i}/function/name", "a name of its own", name) for i, name in enumerate(names) if name in names[:i]]
    if wrong:
        raise ContractError(*wrong, remedy=_REMEDY)
    functions = [document["function"] for document in documents]
    return tuple(Tool(f["name"], f.get("description") or "", f.get("parameters") or _NO_PARAMETERS) for f in functions)


@dataclass(frozen=True)
class Choice:
    """`mode`: whether a reply has calls is the model's decision, or it has none, or at least one. `name`: the only tool that it may call."""

    mode: Literal["auto", "none", "required"] = "auto"
    name: str | None = None

    def of(self, tools: Sequence[Tool]) -> tuple[Tool, ...]:
        """The tools that a reply may call."""
        if self.mode == "none":
            return ()
        return tuple(tool for tool in tools if self.name in (None, tool.name))


def parse_choice(document: object, tools: Sequence[Tool]) -> Choice:
    """OpenAI's `tool_choice`: `auto`, `none`, `required`, or a function by name.

    Raises UsageError for any other, and for a tool that is not there."""
    if document in ("auto", "none", "required"):
        return Choice(document)
    match document:
        case {"type": "function", "function": {"name": str(name)}}:
            if all(tool.name != name for tool in tools):
                known = ", ".join(f"`{tool.name}`" for tool in tools) or "none"
                raise UsageError(f"`tool_choice` names `{name[:64]}`, which is no tool", remedy=f"there are: {known}")
            return Choice("required", name)
    remedy = 'give auto, none, required, or {"type": "function", "function": {"name": …}}'
    raise UsageError(f"`tool_choice` is {json.dumps(document)[:100]}", remedy=remedy)


def _violations(document: object) -> Iterator[tuple[str, str, str]]:
    """Place, expected, found."""
    if not isinstance(document, dict) or document.get("type") != "function" or not isinstance(document.get("function"), dict):
        yield "", "a tool of type `function`", _shown(document)
        return
    function = document["function"]
    for place, given, known in (("", document, {"type", "function"}), ("/function", function, {"name", "description", "parameters", "strict"})):
        for name in sorted(given.keys() - known):
            yield f"{place}/{name[:64]}", "no such field", _shown(given[name])
    name, parameters = function.get("name"), function.get("parameters")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        yield "/function/name", "1 to 64 letters, digits, `_`, `-` or `.`", _shown(name)
    if not isinstance(function.get("description", ""), str | None):
        yield "/function/description", "a text", _shown(function["description"])
    if not isinstance(function.get("strict"), bool | None):  # either way arguments are held to their schema
        yield "/function/strict", "true or false", _shown(function["strict"])
    if parameters is not None:
        yield from _parameters(parameters)


def _parameters(schema: object) -> Iterator[tuple[str, str, str]]:
    if not isinstance(schema, dict) or schema.get("type") != "object":
        yield "/function/parameters", 'the JSON schema of an object ("type": "object")', _shown(schema)
        return
    try:
        json_schema(schema)
    except InterlockError as refused:
        yield "/function/parameters", "a JSON schema that can be enforced", refused.problem


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:100]}…"
