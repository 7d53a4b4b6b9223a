"""Calls in a reply that is whole, whoever wrote it: constrained or free.

Here: where calls stand and what they say. Not here: whether arguments suit a tool (the grammar sees to that), a reply that still comes (stream.py).
Forms: `<tool_call>` with an object or a list, the guide's `TOOL_CALL:`, a fenced block of JSON, and an object by itself.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

OPENING, CLOSING = "<tool_call>", "</tool_call>"
_MARK = re.compile(f"{OPENING}|TOOL_CALL:")
_VALUE = re.compile(r"(?P<mark><tool_call>|TOOL_CALL:|```(?:json|tool_call)?(?=\s))\s*(?P<marked>[{\[])|(?P<bare>\{)")
_TAIL = re.compile(rf"\s*(?:{CLOSING}|```)")
_STRUCTURE = re.compile(r'["{}\[\]]')
_STRING_END = re.compile(r'(?:[^"\\]|\\.)*"', re.DOTALL)
# Of characters looked at in one reply, in lengths of it: an opening bracket that never closes costs a look at all that follows.
_LOOKS = 10


@dataclass(frozen=True)
class Call:
    """`span`: from where to where it stands in the reply, marks included; calls of one list share it."""

    name: str
    arguments: dict[str, Any]
    span: tuple[int, int]


@dataclass(frozen=True)
class Reply:
    """`text`: what is not calls, without white space around it."""

    text: str
    calls: tuple[Call, ...]

    @property
    def unread(self) -> int:
        """Marks of calls behind which none could be read."""
        return len(_MARK.findall(self.text))


def parse_reply(text: str) -> Reply:
    """The calls of a reply in their order, each once. A `name` that is text and `arguments` that are an object, or JSON text of one, make a
    call; anything else is left as text."""
    calls: list[Call] = []
    words, said, position, budget = [], 0, 0, _LOOKS * len(text)
    while budget > 0 and (found := _VALUE.search(text, position)):
        start = found.start("marked" if found["mark"] else "bare")
        end = value_end(text, start)
        budget -= (end or len(text)) - start
        position = end or start + 1
        if end is None:
            continue
        named = _calls(text[start:end], in_list=found["mark"] is not None)
        if named is None or (not named and found["mark"] != OPENING):  # an empty list of calls says that there are none
            continue
        begin = found.start() if found["mark"] else start
        if found["mark"] and (tail := _TAIL.match(text, end)):
            position = tail.end()
        calls += [Call(name, arguments, (begin, position)) for name, arguments in named]
        words.append(text[said:begin])
        said = position
    return Reply("".join((*words, text[said:])).strip(), tuple(calls))


def arguments_text(arguments: dict[str, Any]) -> str:
    """Arguments as the JSON text that OpenAI's form has in their place."""
    return json.dumps(arguments, ensure_ascii=False)


def value_end(text: str, start: int) -> int | None:
    """Where the JSON object or list that begins at `start` ends; None if it does not. Brackets in strings do not count."""
    open_ones: list[str] = []
    position = start
    while found := _STRUCTURE.search(text, position):
        char, position = found[0], found.end()
        if char == '"':
            closed = _STRING_END.match(text, position)
            if closed is None:
                return None
            position = closed.end()
        elif char in "{[":
            open_ones.append("}" if char == "{" else "]")
        elif open_ones.pop() != char:
            return None
        elif not open_ones:
            return position
    return None


def _calls(value: str, *, in_list: bool) -> list[tuple[str, dict[str, Any]]] | None:
    parsed = _json(value)
    items = parsed if isinstance(parsed, list) and in_list else [parsed]
    named = [_call(item) for item in items]
    return [call for call in named if call] if all(named) else None


def _call(value: object) -> tuple[str, dict[str, Any]] | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments")
    if isinstance(arguments, str):
        arguments = _json(arguments)
    return (value["name"], arguments) if isinstance(arguments, dict) else None


def _json(text: str) -> object:
    """None for what is not JSON: NaN is not, and neither is a value in 1,000 brackets."""

    def refuse(word: str) -> None:
        raise ValueError(word)

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return None
