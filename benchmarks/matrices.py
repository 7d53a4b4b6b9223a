"""The matrices of SmolLM2-135M in every form that the project multiplies, in turns: minima of processor time.

Here: the measurement. Not here: the table (kernels.py). Values are random: time does not depend on them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from interlock.errors import UsageError
from runtime.backends.products import OfKernels, Tiled
from runtime.kernels import Kernels, load, why

LAYERS = 30
# Rows and columns of one layer: query, key and value together, attention output, gate and up together, down.
LAYER = ((960, 576), (576, 576), (3072, 576), (576, 1536))
HEAD = (49152, 576)
SHAPES = (*(LAYER * LAYERS), HEAD)
BASE = "Tiled fp32"
Shape = tuple[int, int]


class Rows(Protocol):
    """One weight in one form."""

    def vector(self, x: Tensor) -> Tensor: ...

    def rows(self, x: Tensor) -> Tensor: ...


class Linear:
    """fp32 as torch has it: F.linear."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    def vector(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)

    rows = vector


class Read:
    """One vectorised read of the fp16 bytes: the time below which no product on fp16 gets."""

    def __init__(self, weight: Tensor) -> None:
        self.block = weight.view(torch.float32)
        self.nbytes = 2 * weight.numel()

    def vector(self, x: Tensor) -> Tensor:
        return self.block.sum()

    def rows(self, x: Tensor) -> Tensor:
        return self.block.sum()


def measure(rows: Sequence[int], rounds: int) -> dict[str, Any]:
    """All figures. Raises UsageError for counts below 1, or where there are no kernels."""
    torch.set_num_threads(1)
    kernels = load()
    if kernels is None:
        raise UsageError(f"there are no kernels to measure: {why()}", remedy="install a C compiler, or name one in CC")
    if rounds < 1 or min(rows) < 1:
        raise UsageError(f"{rounds} rounds of {min(rows)} rows", remedy="at least one of each")
    forms: dict[str, list[Rows]] = {}
    pack_ms: dict[str, float] = {}
    for name, (draw, pack) in _forms(kernels).items():
        forms[name], pack_ms[name] = [], 0.0
        for shape in SHAPES:
            weight = draw(shape)
            start = time.process_time()
            forms[name].append(pack(*weight))
            pack_ms[name] += 1e3 * (time.process_time() - start)
    forms["4 bits, head 8 bits"] = [*forms["4 bits, blocks, offset"][:-1], forms["8 bits, blocks"][-1]]
    times = {count: _minima(forms, count, rounds if count == 1 else -(-rounds // 4)) for count in rows}
    return {
        "kernels": why(),
        "cpu": torch.cpu.get_capabilities().get("cpu_name", "unknown"),
        "base": BASE,
        "rows": list(rows),
        "rounds": rounds,
        "forms": {
            name: {
                "megabytes": sum(getattr(product, "nbytes", 4 * n * k) for product, (n, k) in zip(products, SHAPES, strict=True)) / 1e6,
                "pack_ms": pack_ms.get(name, 0.0),
                "times": [{"cpu_ms": times[count][name], "ratio": times[count][name] / times[count][BASE]} for count in rows],
            }
            for name, products in forms.items()
        },
    }


def _forms(kernels: Kernels) -> dict[str, tuple[Callable[[Shape], tuple[Tensor, ...]], Callable[..., Rows]]]:
    """Per form: a random weight as a package would state it, and the product made of it."""

    def packed(bits: int, width: int | None, offset: bool) -> tuple[Callable[[Shape], tuple[Tensor, ...]], Callable[..., Rows]]:
        def draw(shape: Shape) -> tuple[Tensor, ...]:
            codes = torch.randint(0, 1 << bits, shape, dtype=torch.uint8)
            scale = torch.rand(shape[0], shape[1] // (width or shape[1])).half()
            return (codes, scale, scale * 15) if offset else (codes, scale)

        return draw, lambda *parts: OfKernels(kernels.blocks(*(part.numpy() for part in parts), *[None] * (3 - len(parts)), bits))

    return {
        "F.linear fp32": (lambda shape: (torch.randn(shape),), Linear),
        BASE: (lambda shape: (torch.randn(shape),), Tiled),
        "read of fp16 bytes": (lambda shape: (torch.randn(shape).half(),), Read),
        "fp16": (lambda shape: (torch.randn(shape).half(),), lambda weight: OfKernels(kernels.dense(weight.numpy()))),
        "8 bits, per channel": packed(8, None, False),
        "8 bits, blocks": packed(8, 32, False),
        "4 bits, blocks, offset": packed(4, 32, True),
    }


def _minima(forms: dict[str, list[Rows]], count: int, rounds: int) -> dict[str, float]:
    """Process milliseconds of all matrices for `count` rows, per form; one turn more than `rounds` warms up."""
    activations = {k: torch.randn(count, k) for _, k in SHAPES}
    turns = list(forms)
    best = dict.fromkeys(turns, float("inf"))
    order = random.Random(0)  # noqa: S311
    for turn in range(rounds + 1):
        order.shuffle(turns)
        for name in turns:
            start = time.process_time()
            for product, (_, k) in zip(forms[name], SHAPES, strict=True):
                if count == 1:
                    product.vector(activations[k][0])
                else:
                    product.rows(activations[k])
            spent = 1e3 * (time.process_time() - start)
            best[name] = min(best[name], spent) if turn else best[name]
    return best
