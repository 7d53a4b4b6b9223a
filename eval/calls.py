"""Calls of tools, as an item expects them and as a model makes them; finding them in a text.

Here: the records, the forms in which models write calls. Not here: their results (broker), how they are judged (scoring/calls.py).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Call:
    """`arguments` by name."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Made:
    """A call that a model made, with canonical arguments. result: what was replayed, None where nothing is recorded; digest: what a fixture was
    looked for by; problems: why the call is none that the tool takes."""

    name: str
    arguments: dict[str, Any]
    result: dict[str, Any] | None
    digest: str
    problems: tuple[str, ...] = ()


_OPENS = re.compile(r"<tool_call>|TOOL_CALL:|```(?:json|tool_call)?\s")
_DECODER = json.JSONDecoder()


def calls_in(text: str) -> tuple[list[Call], int]:
    """The calls that a text makes, in order, and how many blocks of calls could not be read.

    A block begins with `<tool_call>`, `TOOL_CALL:` or a fence; one call or a list of them stands in it as JSON. What a fence holds that is no call is
    an example and no block. Nothing is repaired: a call that a parser refuses is none.
    """
    found: list[Call] = []
    malformed, place = 0, 0
    while opening := _OPENS.search(text, place):
        place = opening.end()
        start = place + len(text[place:]) - len(text[place:].lstrip())
        fence = opening[0].startswith("```")
        try:
            document, end = _DECODER.raw_decode(text, start)
        except (json.JSONDecodeError, RecursionError):
            malformed += not fence
            continue
        made = _calls(document)
        if made is None:
            malformed += not fence
            continue
        found += made
        place = end
    return found, malformed


def without_calls(text: str) -> str:
    """What a text says beside its calls."""
    return re.sub(r"<tool_call>.*?(?:</tool_call>|\Z)", "", text, flags=re.DOTALL).strip()


def _calls(document: Any) -> list[Call] | None:
    """None where something is no call."""
    listed = document if isinstance(document, list) else [document]
    calls = [
        Call(one["name"], one["arguments"])
        for one in listed
        if isinstance(one, dict) and isinstance(one.get("name"), str) and isinstance(one.get("arguments"), dict)
    ]
    return calls if len(calls) == len(listed) else None
