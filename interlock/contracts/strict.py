"""Strict JSON: the way from untrusted bytes to a validated record, or to every violation.

Here: what the standard parser lets through and a contract must not: duplicate keys, NaN, numbers out of range, integers beyond 2^53, deep nesting,
half surrogates, a byte-order mark, trailing data. Not here: files and digests (io.py), fields (one module per kind).
Whatever the bytes are, reading them takes at most 100 ms and 64 MB.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from interlock.errors import ContractError, Violation, refuse

MAX_BYTES = 4 << 20
MAX_VALUES = 20_000  # the package contract of a model with 211 weights has 3,000
MAX_DEPTH = 64
MAX_DIGITS = 400  # a double has at most 17 that count, and 324 zeros before them
MAX_SHOWN = 100  # violations of one document: what is wrong a thousand times is wrong in one way
MAX_INTEGER = 1 << 53  # beyond it, JSON numbers lose digits in other readers (RFC 8259 section 6)

M = TypeVar("M", bound=BaseModel)


class _Refused:
    """Stands in a parsed document where a value cannot be accepted, so that each can be told with its place."""

    def __init__(self, expected: str, found: str) -> None:
        self.expected = expected
        self.found = found


def parse_json(data: bytes, name: str, *, limit: int = MAX_BYTES, values: int = MAX_VALUES, remedy: str) -> dict[str, Any]:
    """A JSON object from untrusted bytes: at most `limit` of them, and at most `values` values. Raises ContractError naming `name`, what was expected
    and what was found, every place at once once the text is JSON."""

    def bad(found: str, where: str = "") -> ContractError:
        return refuse(name, where, expected="one strict JSON object", found=found, remedy=remedy)

    if len(data) > limit:
        raise bad(f"more than {limit} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise bad(f"bytes that are not UTF-8 at offset {error.start}") from None
    if text.startswith("\ufeff"):
        raise bad("a byte-order mark")
    # Before the parser builds anything: its recursion and its memory are not bounded by the size of the text.
    if text.count('"') + text.count("\\") > 4 * values:
        raise bad(f"more than {4 * values} quotes and backslashes")
    if (brackets := _brackets(text, values)) is None:
        raise bad(f"more than {values} values")
    if _depth(brackets) > MAX_DEPTH:
        raise bad(f"nesting deeper than {MAX_DEPTH}")
    refused: list[_Refused] = []
    try:
        document = _decoder(refused).decode(text)
    except json.JSONDecodeError as error:
        raise bad(f"text that is not JSON ({error.msg})", f"line {error.lineno} column {error.colno}") from None
    if refused:
        places = itertools.islice(_places(document, ""), MAX_SHOWN)
        raise ContractError(*(Violation(name, where, value.expected, value.found) for where, value in places), remedy=remedy)
    if not isinstance(document, dict):
        raise bad(f"a JSON {_JSON[type(document)]}")
    if "\\u" in text and not _is_unicode(document):
        raise bad("half of a surrogate pair, which no UTF-8 text can hold")
    return document


_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_NO_BRACKET = re.compile(r"[^\[\]{}]+")
_JSON = {list: "array", str: "string", int: "number", float: "number", bool: "boolean", type(None): "null"}


def _brackets(text: str, values: int) -> str | None:
    """The brackets of a text outside its strings; None where more than `values` values stand between them."""
    structure = _STRING.sub("", text)
    if structure.count(",") + structure.count("[") + structure.count("{") > values:
        return None
    return _NO_BRACKET.sub("", structure)


def _depth(brackets: str) -> int:
    depth = deepest = 0
    for bracket in brackets:
        depth += 1 if bracket in "[{" else -1
        deepest = max(depth, deepest)
        if depth < 0:
            break  # not JSON: the parser will say where
    return deepest


def _decoder(refused: list[_Refused]) -> json.JSONDecoder:
    """The standard parser; what is not accepted stands in its document as a `_Refused`, and in `refused`."""

    def refuse_value(expected: str, found: str) -> _Refused:
        refused.append(_Refused(expected, found))
        return refused[-1]

    def pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            times = Counter(key for key, _ in pairs)
            made |= {key: refuse_value("each key once", f"this one {count} times") for key, count in times.items() if count > 1}
        return made

    def integer(text: str) -> int | _Refused:
        if len(text) > 17 or abs(int(text)) > MAX_INTEGER:
            return refuse_value("an integer of at most 2^53", f"one of {len(text)} digits: {text[:20]}")
        return refuse_value("0", "the integer -0") if text == "-0" else int(text)

    def real(text: str) -> float | _Refused:
        value = float(text) if len(text) <= MAX_DIGITS else math.inf
        if math.isinf(value) or (value == 0 and re.search("[1-9]", re.split("[eE]", text)[0])):
            return refuse_value("a number in the range of a double", text[:20])
        return value

    return json.JSONDecoder(object_pairs_hook=pairs, parse_int=integer, parse_float=real, parse_constant=lambda text: refuse_value("a number", text))


def _places(value: Any, where: str) -> Iterator[tuple[str, _Refused]]:
    """Every refused value of a document, with its JSON path."""
    if isinstance(value, _Refused):
        yield where, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _places(inner, f"{where}/{_step(key)}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _places(inner, f"{where}/{number}")


def _step(key: str) -> str:
    """A key as a step of a JSON path that can be printed, whatever it holds."""
    return json.dumps(key if len(key) <= 80 else f"{key[:77]}...")[1:-1]


def _is_unicode(document: dict[str, Any]) -> bool:
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def validate(model: type[M], document: dict[str, Any], name: str, *, remedy: str) -> M:
    """`document` as `model`. Raises ContractError with every violation at once, each at its JSON path."""
    valid, wrong = validated(model, document, name)
    if valid is None:
        raise ContractError(*wrong, remedy=remedy)
    return valid


def validated(model: type[M], document: dict[str, Any], name: str) -> tuple[M | None, list[Violation]]:
    """`document` as `model`, or what is wrong with it."""
    try:
        # JSON has no tuples: JSON mode accepts lists for them, and nothing else that Python mode would coerce.
        return model.model_validate_json(json.dumps(document)), []
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)[:MAX_SHOWN]
        return None, [
            Violation(name, "/" + "/".join(_step(str(part)) for part in item["loc"]), item["msg"], shown(item.get("input"))) for item in found
        ]


def shown(value: object) -> str:
    """The beginning of a value, in ASCII. Not json.dumps: the value may be the whole document, once for each violation."""
    encoder = json.JSONEncoder(ensure_ascii=True, default=str)
    text = "".join(itertools.islice(encoder.iterencode(value[:100] if isinstance(value, str) else value), 80))
    return f"`{text if len(text) <= 80 else text[:77] + '...'}`"
