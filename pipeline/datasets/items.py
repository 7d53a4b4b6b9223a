"""Rows of a dataset as items to ask a model.

Here: what of a row is asked, what is its truth, what it is like. Not here: reading rows (reading.py), asking (eval).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from eval.calls import Call
from eval.items import Item
from pipeline.datasets.code_mode import eligible
from pipeline.datasets.rows import Message, Row

# What tables and filters are made of.
STRATA = ("stratum", "lang", "complexity", "scenario", "adversarial", "depth")


def items_of(rows: Iterable[Row]) -> list[Item]:
    """The rows that have an answer. A dialogue is asked up to its assistant's first words."""
    return [_item(row) for row in rows if row.answer]


def _item(row: Row) -> Item:
    calls = [call for message in row.messages or () for call in message.calls or ()]
    given = _until_the_assistant_speaks(row.messages or ())
    return Item(
        id=row.id,
        prompt=row.prompt,
        answer=row.answer or "",
        steps=len(row.steps or ()),
        messages=tuple({"role": message.role, "content": message.content} for message in given),
        accepted=_accepted(row),
        refused=_names(row.metadata.get("refused")),
        strata={name: str(row.metadata[name]) for name in STRATA if row.metadata.get(name) not in (None, "")},
        cluster=next((one for one in row.clusters if one.startswith("template ")), None),
        tools=_names(row.metadata.get("tools")),
        calls=tuple(Call(call.name, call.arguments) for call in calls),
        behaviour=str(row.metadata.get("expected_behaviour", "normal")),
        for_code=eligible(row),
    )


def _until_the_assistant_speaks(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    calling = next((place for place, message in enumerate(messages) if message.role == "assistant" and message.calls), len(messages))
    return messages[:calling]


def _accepted(row: Row) -> tuple[tuple[str, ...], ...]:
    """Groups of words of `metadata.accepted`; of a dialogue that has none, the parts of its answer. Rows with a prompt are compared as they stand."""
    groups = row.metadata.get("accepted")
    if isinstance(groups, list):
        return tuple(_names(group) for group in groups)
    return tuple((part,) for part in (row.answer or "").split("; ")) if row.messages else ()


def _names(value: Any) -> tuple[str, ...]:
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()
