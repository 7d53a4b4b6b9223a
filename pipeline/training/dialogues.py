"""Dialogues as turns to learn: one for each time that the assistant speaks, after the prompt that the model would get there.

Here: which turns a row has, and what is wrong with one. Not here: the template (runtime/engine/chats.py), examples of all rows (encoding.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from interlock.errors import InterlockError, UsageError
from pipeline.datasets.dialogues import conversation, left_out, unknown_tool
from pipeline.datasets.rows import Message, Row
from pipeline.datasets.tools import Registry
from runtime.engine.chats import Conversation, Said, encode_chats, encode_turns
from runtime.engine.tokenizer import Tokenizer

Part = Literal["earlier", "own", "rejected"]


@dataclass(frozen=True)
class Turn:
    """`row`: the key of the row; `message`: which message of the dialogue it is, from 1; `part`: one within it, what the row itself is to say, or
    what it rejects."""

    row: int
    message: int
    part: Part
    said: Said | InterlockError


def turns(rows: Mapping[int, Row], tokenizer: Tokenizer, registry: Registry, *, pairs: Callable[[Row], bool]) -> Iterator[Turn]:
    """Every turn of the assistant in rows with messages, in order: its ids, or what is wrong with it. After an error it may end early. pairs: whose
    rejected answer is asked, too; it comes after the row's own.

    Raises UsageError where there are such rows and the model has no chat template.
    """
    if rows:
        _needs_template(tokenizer)
    asked: list[tuple[int, int, Part, Conversation]] = []
    for key, row in rows.items():
        if (wrong := _wrong(row, registry)) is not None:
            yield Turn(key, 0, "own", wrong)
            continue
        messages = row.messages or ()
        spoken = [number for number, message in enumerate(messages, 1) if message.role == "assistant"]
        asked += [(key, number, "earlier", conversation(row, registry, messages[:number])) for number in spoken]
        own = Message(role="assistant", content=row.response if row.response is not None else row.answer or "")
        asked.append((key, len(messages) + 1, "own", conversation(row, registry, (*messages, own))))
        if row.rejected is not None and pairs(row):
            asked.append((key, len(messages) + 1, "rejected", conversation(row, registry, (*messages, row.rejected))))
    said = encode_turns(tokenizer, (one for *_, one in asked))
    for (key, number, part, one), found in zip(asked, said, strict=False):
        wrong = None if isinstance(found, InterlockError) else _whole(one, found.prompt_text, found.text)
        yield Turn(key, number, part, wrong or found)


def prompts(rows: Sequence[Row], tokenizer: Tokenizer, registry: Registry) -> list[list[int]]:
    """What a model is given of each row, all with messages. Raises UsageError for the first that its template does not write."""
    if not rows:
        return []
    _needs_template(tokenizer)
    if bad := next(((row, wrong) for row in rows if (wrong := _unknown(row, registry))), None):
        raise _of(*bad)
    asked = [conversation(row, registry, row.messages or ()) for row in rows]
    found: list[list[int]] = []
    for row, one, ids in zip(rows, asked, encode_chats(tokenizer, asked), strict=False):
        if isinstance(ids, InterlockError):
            raise _of(row, ids)
        if (wrong := _whole(one, tokenizer.decode(ids))) is not None:
            raise _of(row, wrong)
        found.append(ids)
    return found


def _of(row: Row, wrong: InterlockError) -> UsageError:
    return UsageError(f"row `{row.id}`: {wrong}", remedy=wrong.remedy)


def _needs_template(tokenizer: Tokenizer) -> None:
    if tokenizer.chat_template is None:
        remedy = "take one that has, or bring it in with a tokenizer that has: interlock import --tokenizer DIR"
        raise UsageError("rows with `messages` need a chat template, and the model has none", remedy=remedy)


def _unknown(row: Row, registry: Registry) -> UsageError | None:
    if (name := unknown_tool(row, registry)) is None:
        return None
    return UsageError(f"the tool `{name}` is none of the dataset's", remedy="name tools of its registry in `metadata.tools`")


def _wrong(row: Row, registry: Registry) -> UsageError | None:
    if (unknown := _unknown(row, registry)) is not None:
        return unknown
    if row.steps and row.response is None:
        return UsageError("a dialogue's steps have no place in a chat template", remedy="write them into the row's `response`, before its answer")
    return None


def _whole(one: Conversation, prompt: str, said: str | None = None) -> UsageError | None:
    if (missing := left_out(one, prompt, said)) is None:
        return None
    return UsageError(
        f"the chat template leaves out {missing}",
        remedy="take a model whose template writes tools and calls (interlock import --tokenizer DIR), or take such rows out",
    )
