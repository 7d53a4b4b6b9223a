"""A deployed directory, or a checkpoint, answers an item through one of its backends.

Here: one prompt as it stands, one answer. Not here: opening the model (runtime/load.py), judging the answer (eval/scoring).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from eval.items import Item
from interlock.errors import UsageError
from runtime.engine.generate import generate
from runtime.engine.latent import LatentParams
from runtime.engine.turn import GenerationParams, Reason
from runtime.load import Loaded

# What turns an item into a prompt, for the record: it names itself by the digest of this sentence.
WRAPPER = "the prompt of the item as it stands, without a chat template"
PROMPTS = hashlib.sha256(WRAPPER.encode()).hexdigest()


@dataclass(frozen=True)
class Answered:
    """`passes`: positions after the prompt that the answer took, latent slots among them. `problems`: codes of latent mode."""

    text: str
    reason: Reason
    passes: int
    slots: int = 0
    spans: int = 0
    problems: tuple[str, ...] = ()


def answer(loaded: Loaded, item: Item, max_new_tokens: int, latent: LatentParams | None = None) -> Answered:
    """Greedy. latent: how spans are run, None for text mode. Raises UsageError for a prompt that the model cannot take, KeyboardInterrupt."""
    ids = loaded.tokenizer.encode_prompt(item.prompt)
    params = GenerationParams(max_new_tokens=max_new_tokens, eos_ids=loaded.info.eos_ids, latent=latent)
    try:
        made = generate(loaded.backend, loaded.tokenizer, ids, params)
    except UsageError as error:
        raise UsageError(f"item {item.id}: {error.problem}", remedy=error.remedy) from None
    if made.reason == "interrupted":
        raise KeyboardInterrupt
    trace = made.latent
    if trace is None:
        return Answered(made.text, made.reason, made.steps)
    return Answered(made.text, made.reason, made.steps, trace.slots, len(trace.spans), tuple(trace.errors))
