"""Whether a variant's step is a decoder's, on a model of one layer, before anything relies on it.

Here: that model in numpy, in fp64, and the comparison. Not here: products alone (proof.py), architectures and widths (the tests).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runtime.kernels.decoder import Decoder, Layer, Sequence, Shape
from runtime.kernels.products import Kernels

Array = NDArray[np.float64]
# Two queries to one key head, widths that no register divides, and more slots than one register has lanes.
D, HEADS, SIZE, FF, VOCABULARY, SLOTS = 21, 2, 18, 19, 7, 20
EPSILON = 1e-5
# fp32 sums of some twenty terms in a dozen operations in a row: 1e-6 of values of unit size.
TOLERANCE = 1e-4


def step_mismatch(kernels: Kernels) -> str | None:
    """What is wrong with this variant's step, or None."""
    random = np.random.default_rng(8)

    def drawn(*shape: int) -> Array:
        values: Array = random.standard_normal(shape) / np.sqrt(shape[-1])
        return values

    weights = {"qkv": drawn((HEADS + 2) * SIZE, D), "out": drawn(D, HEADS * SIZE), "gate_up": drawn(2 * FF, D), "down": drawn(D, FF)}
    norms = {name: 1 + drawn(D) for name in ("norm1", "norm2", "norm")}
    head, angles, x = drawn(VOCABULARY, D), random.uniform(0, 6, (SLOTS, SIZE // 2)), random.standard_normal((SLOTS, D))
    tables = (np.cos(angles), np.sin(angles))
    products = {name: kernels.dense(_fp32(weight)) for name, weight in weights.items()}
    layer: Layer[object] = Layer(_fp32(norms["norm1"]), products["qkv"], None, None, True, products["out"], _fp32(norms["norm2"]),
                                 products["gate_up"], products["down"])  # fmt: skip
    shape = Shape(D, HEADS, 1, SIZE, FF, None, EPSILON)
    decoder = Decoder(kernels, shape, [layer], (_fp32(tables[0]), _fp32(tables[1])), _fp32(norms["norm"]), kernels.dense(_fp32(head)), None)
    cache = np.zeros((1, 2, 1, SLOTS, SIZE), np.float32)
    first, _, _ = decoder.step(_fp32(x[: SLOTS - 1]), [Sequence(cache, 0, SLOTS - 1)])
    last, _, _ = decoder.step(_fp32(x[SLOTS - 1 :]), [Sequence(cache, SLOTS - 1, 1)])
    prompt, _, _ = decoder.prompt(_fp32(x), Sequence(np.zeros_like(cache), 0, SLOTS))
    found, expected = np.concatenate([first, last, prompt]), _logits(x, weights, norms, head, tables)
    return None if (np.abs(found - expected[[*range(SLOTS), -1]]) <= TOLERANCE).all() else "a decoding step differs from numpy's"


def _fp32(values: Array) -> NDArray[np.float32]:
    return values.astype(np.float32)


def _norm(x: Array, weight: Array) -> Array:
    normed: Array = x / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON) * weight
    return normed


def _turned(x: Array, cos: Array, sin: Array) -> Array:
    """x: [T, heads, SIZE], turned in halves."""
    a, b = x[..., : SIZE // 2], x[..., SIZE // 2 :]
    return np.concatenate([a * cos[:, None] - b * sin[:, None], b * cos[:, None] + a * sin[:, None]], -1)


def _logits(x: Array, weights: dict[str, Array], norms: dict[str, Array], head: Array, tables: tuple[Array, Array]) -> Array:
    """[T, VOCABULARY] after each of x [T, D]."""
    heads = (_norm(x, norms["norm1"]) @ weights["qkv"].T).reshape(len(x), -1, SIZE)
    turned, value = _turned(heads[:, : HEADS + 1], *tables), heads[:, HEADS + 1]
    scores = np.einsum("thd,sd->hts", turned[:, :HEADS], turned[:, HEADS]) / np.sqrt(SIZE)
    scores = np.where(np.tri(len(x), dtype=bool), np.exp(scores), 0)
    mixed = np.einsum("hts,sd->thd", scores / scores.sum(-1, keepdims=True), value).reshape(len(x), -1)
    x = x + mixed @ weights["out"].T
    gate, up = np.split(_norm(x, norms["norm2"]) @ weights["gate_up"].T, 2, -1)
    x = x + (gate / (1 + np.exp(-gate)) * up) @ weights["down"].T
    logits: Array = _norm(x, norms["norm"]) @ head.T
    return logits
