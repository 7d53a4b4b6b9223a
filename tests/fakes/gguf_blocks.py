"""Blocks of GGUF formats as bytes, random ones with sane scales: what a real file could hold, without a file."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Bytes of a block, elements of it, and where its fp16 scale stands.
LAYOUTS = {
    "Q4_0": (18, 32, 0), "Q4_1": (20, 32, 0), "Q5_0": (22, 32, 0), "Q5_1": (24, 32, 0), "Q8_0": (34, 32, 0), "IQ4_NL": (18, 32, 0),
    "Q4_K": (144, 256, 0), "Q5_K": (176, 256, 0), "Q6_K": (210, 256, 208),
}  # fmt: skip
SIGNED = ("Q4_0", "Q5_0", "Q8_0", "IQ4_NL", "Q6_K")
# Where the minimum of a kind that has one stands, and its usual size in steps: blocks of weights are centred near 0.
MINIMA = {"Q4_1": (2, -7.0), "Q5_1": (2, -15.0), "Q4_K": (2, 0.25), "Q5_K": (2, 0.5)}


def random_blocks(kind: str, count: int, seed: int = 0) -> NDArray[np.uint8]:
    """uint8 [count, bytes of a block]: random codes, scales of 0.002 to 0.022, negative ones where the format has them."""
    source = np.random.default_rng(seed)
    size, _, at = LAYOUTS[kind]
    blocks = source.integers(0, 256, (count, size), np.uint8)
    scale = source.uniform(0.002, 0.022, count).astype(np.float16)
    if kind in SIGNED:
        scale *= source.choice(np.array([-1, 1], np.float16), count)
    put(blocks, at, scale)
    if kind in MINIMA:
        place, steps = MINIMA[kind]
        put(blocks, place, scale.astype(np.float32) * steps * source.uniform(0.9, 1.1, count).astype(np.float32))
    return blocks


def put(blocks: NDArray[np.uint8], at: int, values: NDArray[Any]) -> None:
    """Write one fp16 number into every block."""
    blocks[:, at : at + 2] = values.astype(np.float16).view(np.uint8).reshape(len(blocks), 2)


def encoded(kind: str, weight: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A weight [N, K] in blocks of Q4_0, Q4_1 or Q8_0: uint8 [N, bytes of a row]. Rounding as in quantize_row_*_ref of ggml-quants.c."""
    values = weight.reshape(-1, 32).astype(np.float32)
    if kind == "Q8_0":
        scale = (np.abs(values).max(1, keepdims=True) / 127).astype(np.float16)
        codes = np.rint(values / scale.astype(np.float32)).astype(np.int8).view(np.uint8)
        return np.concatenate([scale.view(np.uint8), codes], axis=1).reshape(len(weight), -1)
    if kind == "Q4_0":
        greatest = np.take_along_axis(values, np.abs(values).argmax(1)[:, None], 1)
        scale, least = (greatest / -8).astype(np.float16), None
        codes = np.clip(np.rint(values / scale.astype(np.float32)) + 8, 0, 15).astype(np.uint8)
    else:
        least = values.min(1, keepdims=True).astype(np.float16)
        scale = ((values.max(1, keepdims=True) - values.min(1, keepdims=True)) / 15).astype(np.float16)
        codes = np.clip(np.rint((values - least.astype(np.float32)) / scale.astype(np.float32)), 0, 15).astype(np.uint8)
    heads = [scale.view(np.uint8)] + ([] if least is None else [least.view(np.uint8)])
    return np.concatenate([*heads, codes[:, :16] | codes[:, 16:] << 4], axis=1).reshape(len(weight), -1)
