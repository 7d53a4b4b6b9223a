"""A deployed directory, or a checkpoint, answers an item through one of its backends.

Here: one prompt, one greedy answer. Not here: opening the model (runtime/load.py), several questions about one item (asking), judging (scoring).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.answers import Answered
from eval.asking import Model
from eval.items import Item
from interlock.errors import UsageError
from runtime.engine.chat import encode_chat
from runtime.engine.generate import generate
from runtime.engine.latent import LatentParams
from runtime.engine.turn import Generation, GenerationParams
from runtime.load import Loaded, load

# What turns an item into a prompt, for the record: it names itself by the digest of this sentence.
WRAPPER = "the prompt of the item as it stands, or its messages by the model's own chat template"
PROMPTS = hashlib.sha256(WRAPPER.encode()).hexdigest()


@dataclass(frozen=True)
class Deployment:
    """A `Runner` of plain text."""

    loaded: Loaded
    max_new_tokens: int

    def say(self, item: Item, messages: Sequence[Mapping[str, str]] | None = None) -> Answered:
        ids = ids_of(self.loaded, item) if messages is None else chat_ids(self.loaded, item, messages)
        return answered(generated(self.loaded, item, ids, self.max_new_tokens))


def opened(model: Model, max_new_tokens: int) -> Deployment:
    """Raises what `runtime.load.load` raises."""
    return Deployment(load(model.directory, model.backend, mode=model.mode), max_new_tokens)


def ids_of(loaded: Loaded, item: Item) -> list[int]:
    """The prompt's ids. Raises UsageError naming the item."""
    try:
        if item.prompt is not None:
            return loaded.tokenizer.encode_prompt(item.prompt)
        return encode_chat(loaded.tokenizer, item.messages)
    except UsageError as error:
        raise of_item(item, error) from None


def chat_ids(loaded: Loaded, item: Item, messages: Sequence[Mapping[str, str]]) -> list[int]:
    """The ids of a dialogue about an item. Raises UsageError naming the item."""
    try:
        return encode_chat(loaded.tokenizer, messages)
    except UsageError as error:
        raise of_item(item, error) from None


def generated(
    loaded: Loaded, item: Item, ids: Sequence[int], max_new_tokens: int, latent: LatentParams | None = None, halt: float | None = None
) -> Generation:
    """Greedy. latent: how spans are run, None for text mode; halt: the threshold from which a halt head is obeyed, None to ask none.

    Raises UsageError for a prompt that the model cannot take, KeyboardInterrupt.
    """
    params = GenerationParams(max_new_tokens=max_new_tokens, eos_ids=loaded.info.eos_ids, latent=latent, halt_threshold=halt)
    try:
        made = generate(loaded.backend, loaded.tokenizer, ids, params)
    except UsageError as error:
        raise of_item(item, error) from None
    if made.reason == "interrupted":
        raise KeyboardInterrupt
    return made


def answer(loaded: Loaded, item: Item, max_new_tokens: int, latent: LatentParams | None = None, halt: float | None = None) -> Answered:
    """The answer to an item as it is given. Raises what `ids_of` and `generated` raise."""
    return answered(generated(loaded, item, ids_of(loaded, item), max_new_tokens, latent, halt))


def answered(made: Generation) -> Answered:
    """A generation as the record of an answer."""
    assert made.reason != "interrupted" and made.reason != "complete"  # nothing is held to a form here
    trace = made.latent
    plain = Answered(made.text, made.reason, made.steps, prompt_tokens=made.prompt_tokens)
    if trace is None:
        return plain
    return Answered(made.text, made.reason, made.steps, trace.slots, len(trace.spans), tuple(trace.errors), made.prompt_tokens)


def of_item(item: Item, error: UsageError) -> UsageError:
    """The same mistake, with the item's name."""
    return UsageError(f"item {item.id}: {error.problem}", remedy=error.remedy)
