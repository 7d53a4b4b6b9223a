"""Running a package of the probe by interlock's own runner, beside what torch computes in fp32.

Here: one function per kind of decoder, which returns (torch's, the package's) values by output. Not here: judging them (judge.py).
The reference of every step with a cache is the same text in one piece without one: what a conversion makes of positions, masks and cache shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.compat.decoder import CACHE_SHAPE, KV_HEADS, LAYERS, MODEL, SLOTS, Embedded, Masked, Prefill, ids
from runtime.mil.runner import Runner

TOKENS = 16
LENGTHS = (8, TOKENS, SLOTS)
STEPS = 16

Pair = tuple[Tensor, Tensor]
Pairs = list[tuple[str, Tensor, Tensor]]
Trial = Callable[[Runner], Pairs]


def prefilled(runner: Runner, lengths: Sequence[int] = LENGTHS, function: str = "main") -> Pairs:
    """input_ids of each length. `function` may hold a place for the length."""
    found: Pairs = []
    for length in lengths:
        text = ids(1, length)
        given = runner.run(function.format(length), {"input_ids": text.numpy()})
        found += beside(("logits", "halt_logits", "k_0", "v_0", "k_1", "v_1"), Prefill()(text), given)
    return found


def masked(runner: Runner) -> Pairs:
    """Each length, its last two tokens padding."""
    found: Pairs = []
    for length in LENGTHS:
        text, mask = ids(1, length), torch.ones(1, length, dtype=torch.int32)
        mask[:, -2:] = 0
        given = runner.run("main", {"input_ids": text.numpy(), "attention_mask": mask.numpy()})
        found += beside(("logits", "halt_logits"), Masked()(text, mask), given)
    return found


def embedded(runner: Runner) -> Pairs:
    x = torch.randn(1, TOKENS, MODEL, generator=torch.Generator().manual_seed(2))
    return beside(("logits", "halt_logits"), Embedded()(x), runner.run("main", {"inputs_embeds": x.numpy()}))


def decoding(runner: Runner, function: str = "main") -> Pairs:
    """Steps from an empty cache, which the host keeps."""
    text = ids(1, STEPS)
    kept = {name: np.zeros(CACHE_SHAPE, np.float32) for name in ("k_cache", "v_cache")}
    found: Pairs = []
    for place in range(STEPS):
        given = runner.run(function, {**step(text, place), **kept})
        for name in ("k", "v"):
            kept[f"{name}_cache"][:, :, place : place + 1] = given[f"{name}_new"]
        found += at_step(text, place, given)
    *_, k_0, v_0, k_1, v_1 = Prefill()(text)
    for name, layers in (("k_cache", (k_0, k_1)), ("v_cache", (v_0, v_1))):
        found.append((name, torch.cat(layers), torch.from_numpy(kept[name][:, :, :STEPS])))
    return found


def stateful(runner: Runner) -> Pairs:
    """Steps from an empty cache, which the package keeps."""
    text, state = ids(1, STEPS), runner.new_state("main")
    found: Pairs = []
    for place in range(STEPS):
        found += at_step(text, place, runner.run("main", step(text, place), state))
    *_, k_0, v_0, k_1, v_1 = Prefill()(text)
    for name, layers in (("k_cache", (k_0, k_1)), ("v_cache", (v_0, v_1))):
        held = torch.from_numpy(state.array(name)).reshape(LAYERS, KV_HEADS, SLOTS, -1)
        found.append((name, torch.cat(layers), held[:, :, :STEPS]))
    return found


def step(text: Tensor, place: int) -> dict[str, Any]:
    return {"input_ids": text[:, place : place + 1].numpy(), "position": np.array([place], np.int32)}


def at_step(text: Tensor, place: int, given: dict[str, Any]) -> Pairs:
    """One step's outputs beside the text up to it in one piece."""
    logits, halt, *_ = Prefill()(text[:, : place + 1])
    return beside(("logits", "halt_logits"), (logits[:, -1:], halt), given)


def beside(names: Sequence[str], expected: Sequence[Tensor], given: dict[str, Any]) -> Pairs:
    """Raises KeyError where an output is missing."""
    return [(name, value, torch.from_numpy(np.asarray(given[name]))) for name, value in zip(names, expected, strict=True)]
