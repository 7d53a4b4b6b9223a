"""What the model is asked: a conversation as ids, and the same conversation with an attempt and what was said of it.

Here: the words of refinement. Not here: chat templates (engine/chat.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from runtime.engine.chat import encode_chat
from runtime.engine.tokenizer import Tokenizer
from runtime.orchestration.judges.verdict import Verdict


@dataclass(frozen=True)
class Conversation:
    """messages: `role` and `content` of each, the last one waits for an answer; raw: their texts are continued as they are, without a template."""

    messages: tuple[Mapping[str, str], ...]
    raw: bool = False

    @property
    def request(self) -> str:
        """What a judge is told that was asked."""
        return self.messages[-1]["content"]


def asked(prompt: str | Sequence[Mapping[str, str]], *, raw: bool = False) -> Conversation:
    """A user's one message, or several of several roles."""
    return Conversation(({"role": "user", "content": prompt},) if isinstance(prompt, str) else tuple(prompt), raw)


def encode(tokenizer: Tokenizer, conversation: Conversation) -> list[int]:
    """Raises what `encode_chat` raises."""
    if conversation.raw or tokenizer.chat_template is None:
        return tokenizer.encode_prompt("\n".join(message["content"] for message in conversation.messages))
    return encode_chat(tokenizer, conversation.messages)


def again(conversation: Conversation, attempt: str, verdict: Verdict | None, *, as_text: bool) -> Conversation:
    """The first conversation, followed by the last attempt and what was said of it. as_text: for a model without a chat template."""
    words = "It is not good enough." if verdict is None else f"It scored {verdict.score:.2f} of 1."
    words = f"{words} {verdict.feedback}" if verdict and verdict.feedback else words
    if as_text:
        text = f"\n\nPrevious attempt:\n{attempt}\n\nFeedback:\n{words}\n\nImproved answer:\n"
        *before, last = conversation.messages
        return replace(conversation, messages=(*before, {**last, "content": last["content"] + text}))
    said = {"role": "assistant", "content": attempt}
    return replace(conversation, messages=(*conversation.messages, said, {"role": "user", "content": f"{words} Write a better answer."}))
