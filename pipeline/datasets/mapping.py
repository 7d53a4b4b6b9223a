"""From the columns of a dataset from elsewhere to the fields of a row.

Here: which column is which field, and the forms in which people keep steps, answers and dialogues. Not here: reading files (documents.py), the rules
of a row (rows.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from interlock.contracts.strict import shown, validated
from interlock.errors import Violation
from pipeline.datasets.rows import Row

FIELDS = ("id", "prompt", "messages", "steps", "answer", "response", "rejected", "metadata")
# ShareGPT's words for who speaks.
_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant", "function": "tool"}


@dataclass(frozen=True)
class Fields:
    """`columns`: the column of a field, where it is not of the field's own name; several columns with `+` between them are joined by an empty line.
    `kept` columns become metadata. `separator` comes before each step, answer and response of a prompt: files from elsewhere leave it out."""

    columns: Mapping[str, str]
    kept: tuple[str, ...] = ()
    separator: str = ""

    @property
    def named(self) -> set[str]:
        """Every column that is read."""
        return {part for field in FIELDS for part in self.columns.get(field, field).split("+")} | set(self.kept)


class _Misfit(Exception):
    def __init__(self, where: str, expected: str, found: object) -> None:
        super().__init__(where)
        self.violation = Violation("", f"/{where}" if where else "", expected, found if isinstance(found, str) else shown(found))


def row_of(fields: Fields, document: dict[str, Any], name: str) -> tuple[Row | None, list[Violation]]:
    """A document as a row, or what is wrong with it at its columns; `name` is the id of a row that brings none."""
    try:
        made = _document(fields, document)
    except _Misfit as misfit:
        return None, [misfit.violation]
    return validated(Row, {"id": name, **made}, "")


def _document(fields: Fields, document: dict[str, Any]) -> dict[str, Any]:
    absent = [column for field in fields.columns for column in fields.columns[field].split("+") if column not in document]
    if missing := [*absent, *(column for column in fields.kept if column not in document)]:
        raise _Misfit(missing[0], f"a column `{missing[0]}`, as --map and --keep say", f"columns {', '.join(list(document)[:12])}")
    made: dict[str, Any] = {}
    for field in FIELDS:
        column = fields.columns.get(field, field)
        values = [document.get(part) for part in column.split("+")]
        if len(values) > 1:
            made[field] = "\n\n".join(
                str(_text(part, value)) for part, value in zip(column.split("+"), values, strict=True) if value not in (None, "")
            )
        elif values[0] is not None:
            made[field] = _READERS[field](column, values[0])
    for either, other in (("prompt", "messages"), ("answer", "response")):
        if not made.keys() & {either, other, "messages"}:
            told = f"a column `{either}` or `{other}` (--map {either}=COLUMN)"
            raise _Misfit("", told, f"columns {', '.join(list(document)[:12])}")
    if "prompt" in made:
        made |= {field: fields.separator + made[field] for field in ("answer", "response") if field in made}
        if "rejected" in made:
            made["rejected"] = {**made["rejected"], "content": fields.separator + made["rejected"]["content"]}
        if "steps" in made:
            made["steps"] = [fields.separator + step for step in made["steps"]]
    elif "response" not in made and "answer" not in made and len(made.get("messages", ())) > 1 and made["messages"][-1]["role"] == "assistant":
        *made["messages"], last = made["messages"]  # what the dialogue ends with is what is to be learned
        if "calls" in last:
            raise _Misfit("messages", "a dialogue that ends with words", f"a call of `{last['calls'][0]['name']}`")
        made["response"] = last["content"]
    if fields.kept:
        made["metadata"] = {**made.get("metadata", {}), **{column: document[column] for column in fields.kept}}
    return made


def _text(column: str, value: Any) -> str:
    """Text; a whole number as its digits, since answers are often kept so."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise _Misfit(column, "a text", value)


def _steps(column: str, value: Any) -> list[str]:
    """A list of texts, or one text with a step on each line."""
    if isinstance(value, str):
        return [line for line in value.splitlines() if line.strip()]
    if not isinstance(value, list):
        raise _Misfit(column, "a list of texts, or a text with a step on each line", value)
    return [_text(column, step) for step in value]


def _messages(column: str, value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        raise _Misfit(column, "a list of messages", value)
    return [_message(f"{column}/{number}", turn) for number, turn in enumerate(value)]


def _message(where: str, turn: dict[str, Any]) -> dict[str, Any]:
    """A message by `role` and `content` (chat templates) or `from` and `value` (ShareGPT), with the calls that OpenAI's form keeps in JSON texts."""
    role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
    if not isinstance(role, str):
        raise _Misfit(where, "`role`, or `from`", ", ".join(turn))
    made: dict[str, Any] = {"role": _ROLES.get(role, role), "content": "" if content is None else _text(f"{where}/content", content)}
    if calls := turn.get("calls") or turn.get("tool_calls"):
        if not isinstance(calls, list):
            raise _Misfit(f"{where}/tool_calls", "a list of calls", calls)
        made["calls"] = [_call(f"{where}/tool_calls/{number}", call) for number, call in enumerate(calls)]
    return made


def _call(where: str, call: Any) -> dict[str, Any]:
    inner = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        raise _Misfit(where, "a call with the name of its function", call)
    arguments = inner.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            raise _Misfit(f"{where}/arguments", "JSON", arguments) from None
    if not isinstance(arguments, dict):
        raise _Misfit(f"{where}/arguments", "arguments by name", arguments)
    return {"name": inner["name"], "arguments": arguments}


def _rejected(column: str, value: Any) -> dict[str, Any]:
    """A text, a message, or a dialogue whose last message is the rejected one."""
    if isinstance(value, list) and value:
        return _messages(column, value)[-1]
    return _message(column, value) if isinstance(value, dict) else {"role": "assistant", "content": _text(column, value)}


def _object(column: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Misfit(column, "an object", value)
    return value


_READERS = {
    "id": _text, "prompt": _text, "messages": _messages, "steps": _steps, "answer": _text, "response": _text, "rejected": _rejected,
    "metadata": _object,
}  # fmt: skip
