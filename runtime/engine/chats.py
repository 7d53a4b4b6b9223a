"""Many conversations at once: prompts as ids, and what an assistant said after each, as a training needs them.

Here: which of them share a child, and the border between a prompt and its answer. Not here: rendering one (chat.py), rows of a dataset
(pipeline/training/dialogues.py).
A child takes milliseconds to start, a conversation a fraction of one: so some hundreds share one, within its limits.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from interlock.errors import ContractError, InterlockError, UsageError
from runtime.engine import sandbox
from runtime.engine.chat import CONVERSATION_BYTES, Json, Message, Veil, context, context_tokens, rendered, template_of, unrendered

if TYPE_CHECKING:
    from runtime.engine.tokenizer import Tokenizer

# Contexts that one child renders; together they are no longer than one alone may be.
AT_ONCE = 256


@dataclass(frozen=True)
class Conversation:
    """`messages` and `variables` as `encode_chat` takes them."""

    messages: Sequence[Message]
    variables: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True)
class Said:
    """A prompt and what was said after it. prompt: exactly the ids that `encode_chat` gives for the messages before; ids: of the answer alone, the
    token that ends it last; prompt_text, text: both as the template wrote them."""

    prompt: list[int]
    ids: list[int]
    prompt_text: str
    text: str


def encode_chats(tokenizer: Tokenizer, conversations: Iterable[Conversation]) -> Iterator[list[int] | InterlockError]:
    """The prompt ids of each conversation, or the error that `encode_chat` raises for it.

    It ends after a conversation whose rendering comes to a limit of time, memory or output: the next may do so, too, and each would cost as much.
    Raises UsageError where the model has no chat template.
    """
    veil = Veil(tokenizer.control_strings)
    contexts = (_context(tokenizer, veil, one, prompt=True) for one in conversations)
    for text in _texts(template_of(tokenizer), contexts):
        yield text if isinstance(text, InterlockError) else tokenizer.encode_rendered(text, veil.reveal)


def encode_turns(tokenizer: Tokenizer, conversations: Iterable[Conversation]) -> Iterator[Said | InterlockError]:
    """What the assistant says in the last message of each conversation, after the prompt of those before it; else as `encode_chats`.

    The prompt is rendered as it is for the model, the answer is what the template writes more when it is there, up to the first token that ends a
    text. An error also where that is no continuation of the prompt, or has no such token.
    """
    veil = Veil(tokenizer.control_strings)

    def contexts() -> Iterator[dict[str, Json] | InterlockError]:
        for one in conversations:
            yield _context(tokenizer, veil, Conversation(one.messages[:-1], one.variables), prompt=True)
            yield _context(tokenizer, veil, one, prompt=False)

    texts = _texts(template_of(tokenizer), contexts())
    for prompt in texts:
        yield _said(tokenizer, veil, prompt, next(texts, prompt))  # there is no second where the first came to a limit, and is an error


def _said(tokenizer: Tokenizer, veil: Veil, prompt: str | InterlockError, whole: str | InterlockError) -> Said | InterlockError:
    if isinstance(prompt, InterlockError):
        return prompt
    if isinstance(whole, InterlockError):
        return whole
    if not whole.startswith(prompt):
        end = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(prompt, whole, strict=False)))
        return UsageError(
            "the chat template does not write a conversation as its prompt and an answer after it: "
            f"the prompt has {veil.reveal(prompt[end : end + 40])!r} where the conversation has {veil.reveal(whole[end : end + 40])!r}",
            remedy="bring the model in with a template that does",
        )
    text = whole[len(prompt) :]
    ids = tokenizer.encode_rendered(text, veil.reveal)
    ends = next((number for number, token in enumerate(ids) if token in tokenizer.info.eos_ids), None)
    if ends is None:
        names = ", ".join(f"`{tokenizer.token_string(token)}`" for token in tokenizer.info.eos_ids) or "there is none"
        return UsageError(
            f"the chat template ends an answer with no token that ends a text ({names}): {veil.reveal(text[-40:])!r}",
            remedy="bring the model in with a tokenizer whose `eos_token` is the one with which its template ends a turn",
        )
    return Said(tokenizer.encode_rendered(prompt, veil.reveal), ids[: ends + 1], veil.reveal(prompt), veil.reveal(text))


def _context(tokenizer: Tokenizer, veil: Veil, one: Conversation, *, prompt: bool) -> dict[str, Json] | InterlockError:
    messages = [veil.hide(message) for message in one.messages]
    try:
        return context(messages, add_generation_prompt=prompt, variables=veil.hide(one.variables), **context_tokens(tokenizer))
    except UsageError as error:
        return error


def _texts(template: str, contexts: Iterable[dict[str, Json] | InterlockError]) -> Iterator[str | InterlockError]:
    """Each context's text or error, in order; the last is that of a context that came to a limit."""
    for batch in _batches(contexts):
        found = iter(_rendered(template, [one for one in batch if not isinstance(one, InterlockError)]))
        for one in batch:
            text = one if isinstance(one, InterlockError) else next(found)
            yield text
            if isinstance(text, _Limit):
                return


def _batches(contexts: Iterable[dict[str, Json] | InterlockError]) -> Iterator[list[dict[str, Json] | InterlockError]]:
    batch: list[dict[str, Json] | InterlockError] = []
    size = 0
    for one in contexts:
        more = 0 if isinstance(one, InterlockError) else len(json.dumps(one))
        if batch and (len(batch) == AT_ONCE or size + more > CONVERSATION_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += more
    if batch:
        yield batch


class _Limit(ContractError):
    """The error of a conversation whose rendering came to a limit when it was alone in its child."""


def _rendered(template: str, contexts: Sequence[dict[str, Json]]) -> list[str | InterlockError]:
    """All of them, or those up to the first that comes to a limit alone: halves are tried apart until it is known which."""
    if not contexts:
        return []
    try:
        return rendered(template, contexts)
    except sandbox.ChildFailed as failed:
        if len(contexts) == 1:
            error = unrendered(failed)
            return [_Limit(*error.violations, remedy=error.remedy)]
    half = len(contexts) // 2
    first = _rendered(template, contexts[:half])
    return first if isinstance(first[-1], _Limit) else first + _rendered(template, contexts[half:])
