"""A row of a dataset: one JSON object on one line.

Here: the fields of a row and the rules between them, and what two rows must not share across splits. Not here: reading files (reading.py).
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from interlock.canonical import canonical_json
from interlock.contracts.base import Frozen

MAX_STEPS = 1024
MAX_MESSAGES = 1024


class Call(Frozen):
    """A call of a tool: `arguments` by name."""

    name: Annotated[str, Field(min_length=1)]
    arguments: dict[str, Any]


class Message(Frozen):
    """One turn of a dialogue. `calls` are an assistant's; a `tool` message answers the calls before it, in their order."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    calls: tuple[Call, ...] | None = None

    @model_validator(mode="after")
    def _only_assistants_call(self) -> Message:
        if self.calls and self.role != "assistant":
            raise ValueError(f"a {self.role} message calls no tool")
        return self


class Row(Frozen):
    """What a model is given (`prompt`, or `messages`), the steps of its reasoning, and what it shall say.

    `answer` is the truth, `response` a whole text to learn instead of steps and answer; at least one of the two is there. In text mode a row with a
    prompt reads prompt, steps and answer one after another: a space between two parts is in one of them, and ids are made of each part alone,
    so that no token crosses a border. `rejected` is what an assistant could have said instead, and should not have: the other half of a pair.
    """

    id: Annotated[str, Field(min_length=1, max_length=256)]
    prompt: str | None = None
    messages: Annotated[tuple[Message, ...], Field(max_length=MAX_MESSAGES)] | None = None
    steps: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(max_length=MAX_STEPS)] | None = None
    answer: str | None = None
    response: str | None = None
    rejected: Message | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_whole(self) -> Row:
        if (self.prompt is None) == (not self.messages):
            raise ValueError("a row has a prompt or messages, and not both")
        if self.answer is None and self.response is None:
            raise ValueError("a row has an answer or a response")
        if self.rejected is not None and (self.rejected.role != "assistant" or (self.prompt is not None and self.rejected.calls)):
            raise ValueError("what is rejected is a message of the assistant, and calls stand in dialogues alone")
        return self

    @property
    def given(self) -> str:
        """What the model is given, as one text; messages as canonical JSON."""
        if self.prompt is not None:
            return self.prompt
        return canonical_json([message.model_dump(exclude_none=True) for message in self.messages or ()]).decode()

    @property
    def clusters(self) -> tuple[str, ...]:
        """Templates, entities or documents that the row shares with others, where it says them: a cluster belongs to one split."""
        named = self.metadata.get("clusters")
        return tuple(one for one in named if isinstance(one, str)) if isinstance(named, list) else ()

    def line(self) -> bytes:
        """The row as it stands in a file: compact UTF-8, fields in the order of this class, absent ones left out, a newline at the end."""
        document = self.model_dump(exclude_none=True)
        return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def likeness(text: str) -> bytes:
    """16 bytes that texts share which differ only in case, spacing and Unicode composition: such prompts count as the same one."""
    folded = unicodedata.normalize("NFC", " ".join(text.split())).casefold()
    return hashlib.sha256(folded.encode("utf-8", "surrogatepass")).digest()[:16]
