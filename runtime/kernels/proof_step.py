"""Whether a variant's step is a decoder's, and its prompt, on a model of one layer, before anything relies on it.

Here: that model in numpy, in fp64, and the comparison. Not here: products alone (proof.py), architectures and widths (the tests).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.kernels.decoder import Decoder, Layer, Sequence, Shape
from runtime.kernels.products import Kernels, Product, brain

Array = NDArray[np.float64]
# Two queries to one key head, widths that no register divides, and more slots than one register has lanes.
D, HEADS, SIZE, FF, VOCABULARY, SLOTS = 21, 2, 18, 19, 7, 20
EPSILON = 1e-5
# fp32 sums of some twenty terms in a dozen operations in a row: 1e-6 of values of unit size.
TOLERANCE = 1e-4
# More positions than the matrix units take at a time; activations in bf16 have 8 bits, 2e-3 of values of unit size, in four products in a row.
PROMPT = 70
ROUNDED = 5e-2


def step_mismatch(kernels: Kernels) -> str | None:
    """What is wrong with this variant's step, or None."""
    toy, kernels = _Toy(np.random.default_rng(8), SLOTS), replace(kernels, prompt_function=None)
    decoder = toy.decoder(kernels, {name: kernels.dense(_fp32(weight)) for name, weight in toy.weights.items()})
    cache, x = np.zeros((1, 2, 1, SLOTS, SIZE), np.float32), _fp32(toy.x)
    first, _, _ = decoder.step(x[: SLOTS - 1], [Sequence(cache, 0, SLOTS - 1)])
    last, _, _ = decoder.step(x[SLOTS - 1 :], [Sequence(cache, SLOTS - 1, 1)])
    prompt, _, _ = decoder.prompt(x, Sequence(np.zeros_like(cache), 0, SLOTS))
    found, expected = np.concatenate([first, last, prompt]), toy.said(toy.weights)[[*range(SLOTS), -1]]
    return None if _near(found, expected, TOLERANCE) else "a decoding step differs from numpy's"


def prompt_mismatch(kernels: Kernels) -> str | None:
    """What is wrong with this variant's prompts, in any form of weights, or None. The forms' own values are proved before (proof.py)."""
    random = np.random.default_rng(9)
    toy = _Toy(random, PROMPT)
    forms: dict[str, Callable[[Array], NDArray[Any]]] = {
        "fp32": _fp32,
        "fp16": lambda weight: weight.astype(np.float16),
        "bf16": lambda weight: brain(_fp32(weight)),
    }
    made: dict[str, dict[str, Product]] = {
        name: {key: kernels.dense(form(weight)) for key, weight in toy.weights.items()} for name, form in forms.items()
    }
    for bits, added in ((4, True), (8, False)):
        made[f"{bits} bits"] = {key: _blocks(kernels, random, weight, bits, added) for key, weight in toy.weights.items()}
    for name, products in made.items():
        cache, x = np.zeros((1, 2, 1, PROMPT, SIZE), np.float32), _fp32(toy.x)
        decoder = toy.decoder(kernels, products)
        decoder.prompt(x[:33], Sequence(cache, 0, 33))
        last, _, _ = decoder.prompt(x[33:], Sequence(cache, 33, PROMPT - 33))
        expected = toy.said({key: product.select(np.arange(product.n)).astype(np.float64) for key, product in products.items()})
        if not _near(last[0], expected[-1], ROUNDED if name == "bf16" else TOLERANCE):
            return f"a prompt on {name} differs from numpy's"
    return None


def _blocks(kernels: Kernels, random: np.random.Generator, weight: Array, bits: int, added: bool) -> Product:
    """Something of the size of a weight, in blocks of a third or all of a row."""
    n, k = weight.shape
    blocks, half = 3 if k % 3 == 0 else 1, float(1 << (bits - 1))
    codes = random.integers(0, 1 << bits, (n, k)).astype(np.uint8)
    scale = ((random.random((n, blocks)) + 0.5) / (half * np.sqrt(k))).astype(np.float16)
    offset = (-half * scale).astype(np.float16) if added else np.full_like(scale, half)
    return kernels.blocks(codes, scale, offset, bits, added=added)


def _near(found: NDArray[np.float32], expected: Array, tolerance: float) -> bool:
    return bool((np.abs(found - expected) <= tolerance).all())


class _Toy:
    """A model of one layer and `slots` positions, in fp64. weights: by the names of a layer's products."""

    def __init__(self, random: np.random.Generator, slots: int) -> None:
        def drawn(*shape: int) -> Array:
            values: Array = random.standard_normal(shape) / np.sqrt(shape[-1])
            return values

        self.weights = {"qkv": drawn((HEADS + 2) * SIZE, D), "out": drawn(D, HEADS * SIZE), "gate_up": drawn(2 * FF, D), "down": drawn(D, FF)}
        self.norms = {name: 1 + drawn(D) for name in ("norm1", "norm2", "norm")}
        self.head, angles, self.x = drawn(VOCABULARY, D), random.uniform(0, 6, (slots, SIZE // 2)), random.standard_normal((slots, D))
        self.tables = (np.cos(angles), np.sin(angles))

    def decoder(self, kernels: Kernels, products: Mapping[str, Product]) -> Decoder:
        norm1, norm2, norm = (_fp32(self.norms[name]) for name in ("norm1", "norm2", "norm"))
        layer: Layer[object] = Layer(norm1, products["qkv"], None, None, True, products["out"], norm2, products["gate_up"], products["down"])
        shape, tables = Shape(D, HEADS, 1, SIZE, FF, None, EPSILON), (_fp32(self.tables[0]), _fp32(self.tables[1]))
        return Decoder(kernels, shape, [layer], tables, norm, kernels.dense(_fp32(self.head)), None)

    def said(self, weights: Mapping[str, Array]) -> Array:
        """[T, VOCABULARY] after each of x."""
        x = self.x
        heads = (_norm(x, self.norms["norm1"]) @ weights["qkv"].T).reshape(len(x), -1, SIZE)
        turned, value = _turned(heads[:, : HEADS + 1], *self.tables), heads[:, HEADS + 1]
        scores = np.einsum("thd,sd->hts", turned[:, :HEADS], turned[:, HEADS]) / np.sqrt(SIZE)
        scores = np.where(np.tri(len(x), dtype=bool), np.exp(scores), 0)
        mixed = np.einsum("hts,sd->thd", scores / scores.sum(-1, keepdims=True), value).reshape(len(x), -1)
        x = x + mixed @ weights["out"].T
        gate, up = np.split(_norm(x, self.norms["norm2"]) @ weights["gate_up"].T, 2, -1)
        x = x + (gate / (1 + np.exp(-gate)) * up) @ weights["down"].T
        logits: Array = _norm(x, self.norms["norm"]) @ self.head.T
        return logits


def _fp32(values: Array) -> NDArray[np.float32]:
    return values.astype(np.float32)


def _norm(x: Array, weight: Array) -> Array:
    normed: Array = x / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON) * weight
    return normed


def _turned(x: Array, cos: Array, sin: Array) -> Array:
    """x: [T, heads, SIZE], turned in halves."""
    a, b = x[..., : SIZE // 2], x[..., SIZE // 2 :]
    return np.concatenate([a * cos[:, None] - b * sin[:, None], b * cos[:, None] + a * sin[:, None]], -1)
