"""A model behind an OpenAI-compatible address answers an item: `interlock serve`, or any other server of that interface.

Here: what is sent, what of the reply is an answer, when an item has failed and when the whole run has. Not here: HTTP, time and retries
(interlock/posting.py), judging (scoring).
The prompts are those of every runner: a prompt goes to `completions` as it stands, messages to `chat/completions`, tools as words in a message and
not as the interface's `tools`, which each server would put in words of its own. The server decides whether latent spans are run and a halt head is
obeyed; what it tells of them (`latent_slots`, `latent_spans` and `halt_probability` of `usage`) is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult

from eval.answers import Answered, Reason
from eval.asking import Endpoint
from eval.items import Item
from eval.runners import NotAnswered
from interlock.contracts.strict import parse_json
from interlock.errors import ContractError, StageFailed, UsageError
from interlock.posting import MAX_REPLY, PASSING, Patience, Refusal, completions, endpoint_key, excerpt, is_here, post

CHAT = "/chat/completions"
SEED = 0  # sent and recorded; at temperature 0 a sound server has no use for it
# An answer that no other item would get either: a redirect, a key that is none, no such address or model.
HOPELESS = {301, 302, 303, 307, 308, 401, 402, 403, 404, 405}
# So many items one after another without an answer, each after all its retries: the server is gone.
MOST_IN_A_ROW = 5
REMEDY = "see to the endpoint, then run the same command again: items that have an answer are not asked again"
# No stop text is sent: a model that stops has ended by itself, or its halt head has ended it, which the interface does not tell apart.
ENDS: dict[str, Reason] = {"stop": "eos", "tool_calls": "eos", "length": "length"}


@dataclass
class OverHttp:
    """A `Runner`. in_a_row: items without an answer since the last one that had one."""

    model: Endpoint
    max_new_tokens: int
    chat: SplitResult
    key: str | None
    in_a_row: int = field(default=0)

    def say(self, item: Item, messages: Sequence[Mapping[str, str]] | None = None) -> Answered:
        asked: dict[str, Any] = {"model": self.model.model, "max_tokens": self.max_new_tokens, "temperature": 0, "seed": SEED}
        if messages is None and item.prompt is not None:
            place = self.chat._replace(path=self.chat.path.removesuffix(CHAT) + "/completions")
            asked["prompt"] = item.prompt
        else:
            place = self.chat
            asked["messages"] = [dict(message) for message in (item.messages if messages is None else messages)]
        reply = post(place, self.key, asked, Patience(self.model.timeout_s, self.model.retries), lambda *told: self._failed(item, *told))
        said = self._read(item, reply)
        self.in_a_row = 0
        return said

    def _failed(self, item: Item, expected: str, found: object) -> StageFailed:
        """What is raised where HTTP gave no answer."""
        problem = f"`{self.model.model}` at {self.model.url}: expected {expected}, found {found}"
        status = found.status if isinstance(found, Refusal) else None
        if status in HOPELESS:
            return StageFailed(problem, remedy=REMEDY)
        if status is None or status in PASSING:  # not what this item asks, but the server
            self.in_a_row += 1
            if self.in_a_row >= MOST_IN_A_ROW:
                return StageFailed(f"{problem}; {self.in_a_row} items in a row got no answer", remedy=REMEDY)
        return NotAnswered(f"item {item.id}: {problem}", remedy=REMEDY)

    def _read(self, item: Item, reply: bytes) -> Answered:
        """Raises NotAnswered for a reply without the words or the numbers of an answer: a missing number is not 0."""
        try:
            document = parse_json(reply, "the reply", limit=MAX_REPLY, remedy="")
            choice, usage = document["choices"][0], document["usage"]
            text = choice["message"]["content"] if "message" in choice else choice["text"]
            end, passes, prompt = ENDS[choice["finish_reason"]], usage["completion_tokens"], usage["prompt_tokens"]
            if not isinstance(text, str) or type(passes) is not int or type(prompt) is not int:
                raise TypeError
        except (ContractError, KeyError, IndexError, TypeError):
            expected = "an answer with text, finish_reason and usage"
            raise NotAnswered(f"item {item.id}: `{self.model.model}`: expected {expected}, found {excerpt(reply)}", remedy=REMEDY) from None
        slots, spans = (value if type(value := usage.get(name)) is int else 0 for name in ("latent_slots", "latent_spans"))
        halt = usage.get("halt_probability")
        numbers: dict[str, tuple[float, ...]] = {"halt_probability": (float(halt),)} if isinstance(halt, int | float) else {}
        fingerprint = document.get("system_fingerprint")
        return Answered(
            text, end, passes, slots, spans, prompt_tokens=prompt, numbers=numbers, fingerprint=fingerprint if isinstance(fingerprint, str) else ""
        )


def opened(model: Endpoint, max_new_tokens: int) -> OverHttp:
    """Nothing is sent yet. Raises UsageError for an address that is none, and for a key or prompts that would travel in the clear unasked."""
    chat = completions(model.url)
    if chat.scheme == "http" and not is_here(chat.hostname or "") and not model.plain_http:
        raise UsageError(
            f"prompts would be sent unencrypted to `{chat.hostname}`", remedy="use https, or say --plain-http for a network that you trust"
        )
    return OverHttp(model, max_new_tokens, chat, endpoint_key(model.key_variable, chat))
