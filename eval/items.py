"""An item: what a model is asked and what it should say.

Here: the record, which items are asked, which shard has which. Not here: reading datasets (pipeline/datasets), how an item is put to a model
(asking).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import TypeAdapter

from eval.calls import Call
from interlock.canonical import canonical_json


@dataclass(frozen=True)
class Item:
    """What is given is a `prompt` as it stands, or `messages` (role and content) for the model's chat template.

    answer: the truth in one text; accepted: groups of words, each of which has to be in an answer by one of its spellings; refused: words that make
    an answer wrong if they come before those; steps: how many steps of reasoning lead to the answer; strata: what the item is like, for tables;
    cluster: what it shares with others (a template, a document), None where it stands alone. Of an item with tools: those offered, the expected
    calls, whether it is a control (`no_tool`, `decline`), and whether it is one for code.
    """

    id: str
    prompt: str | None
    answer: str
    steps: int = 0
    messages: tuple[dict[str, str], ...] = ()
    accepted: tuple[tuple[str, ...], ...] = ()
    refused: tuple[str, ...] = ()
    strata: dict[str, str] = field(default_factory=dict)
    cluster: str | None = None
    tools: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    behaviour: str = "normal"
    for_code: bool = False

    @property
    def given(self) -> str:
        """What is asked, for people."""
        return self.prompt if self.prompt is not None else self.messages[-1]["content"]

    @property
    def digest(self) -> str:
        """Of all that the model sees of the item: two that differ in their truth alone have one answer."""
        return hashlib.sha256(canonical_json([self.prompt, list(self.messages), list(self.tools)])).hexdigest()

    @property
    def is_control(self) -> bool:
        """Whether no tool may be called."""
        return self.behaviour in ("no_tool", "decline")

    def record(self) -> dict[str, Any]:
        return asdict(self)


_ITEM = TypeAdapter(Item)


def from_record(record: Mapping[str, Any]) -> Item:
    return _ITEM.validate_python(record)


def sampled(items: Iterable[Item], most: int | None) -> list[Item]:
    """At most so many items, by id. Which they are is decided by a hash of the id: another order, or more items beside them, change nothing that does
    not crowd them out."""
    hashed = sorted(items, key=lambda item: hashlib.sha256(item.id.encode()).digest())
    return sorted(hashed[:most], key=lambda item: item.id)


def shard_of(name: str, shards: int) -> int:
    """The shard of an item, from 0: the first eight bytes of the sha256 of its id, little-endian, modulo their number (the guide's rule)."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") % shards
