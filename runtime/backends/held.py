"""How eager holds a model's weights: as floats of some width, or as integer codes, each with the fastest products that this machine has for it.

Here: the choice for each weight, and the layers made of them. Not here: products (runtime/kernels, products.py), where codes come from (codes.py,
checkpoint_codes.py, package_codes.py), what is computed with a layer (forward.py, runtime/kernels/decoder.py).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from interlock.contracts.checkpoint import Arch
from runtime.backends import products
from runtime.backends.codes import Codes, joined, rounded
from runtime.kernels import load as load_kernels
from runtime.kernels import why
from runtime.kernels.decoder import Layer
from runtime.kernels.products import Dense, Function

# fp32: every weight exactly as given; bf16: rounded; int8: rounded to blocks of codes; packed: the source's own codes, where it has them.
Weights = Literal["fp32", "bf16", "int8", "packed"]
# A tensor by its name, in any float dtype: a mapping's `__getitem__`, or a reader of one tensor at a time. It may be kept, and must not change.
Load = Callable[[str], Tensor]
# Up to here the kernels' product on fp16 takes less time than widening the weight.
FEW = 16
# The codes of a weight by its name, None where it has none.
LoadCodes = Callable[[str], Codes | None]


class Exact(Dense):
    """fp32, or fp16 as stored: decoding reads half as much, and every value is the same. Prompts are multiplied in fp32 by torch."""

    def rows(self, x: Tensor) -> Tensor:
        if self.weight.dtype is torch.float16 and len(x) <= FEW:
            return super().rows(x)
        return F.linear(x, self.weight.float())


class Brain(Dense):
    """bf16. Decoding rounds no activation. Prompts run on the processor's bf16 units (AMX, AVX-512 BF16) where it has them, on a copy in oneDNN's own
    order that the first of them makes: without it they take 1.3 times as long."""

    def rows(self, x: Tensor) -> Tensor:
        return self._prompts.rows(x)

    @cached_property
    def _prompts(self) -> products.Product:
        return products.product(self.weight, "bfloat16")


class Held:
    """The weights of one model by the student's names. notes: what was chosen, for a person; nbytes: of all matrices so far."""

    def __init__(self, load: Load, weights: Weights = "fp32", codes: LoadCodes | None = None) -> None:
        """codes: for `packed`. Without kernels values are the same and torch multiplies them, widened."""
        self._load, self._weights, self._codes = load, weights, codes
        self.kernels = load_kernels()
        self.nbytes = 0
        by = "kernels" if self.kernels else "multiplied by torch, codes widened to fp32"
        self.notes = (f"{weights} weights, {by}: {why()}",)

    def product(self, *names: str) -> products.Product:
        """Of some weights [N, K] below each other."""
        return self.table(*names)

    def table(self, *names: str) -> products.Table:
        """The same, whose rows are also looked up."""
        made = self._table(names)
        self.nbytes += made.nbytes
        return made

    def _table(self, names: tuple[str, ...]) -> products.Table:
        codes = self._all_codes(names)
        if codes is not None:
            return products.table(codes.values(), "float32") if self.kernels is None else self.kernels.blocks(
                codes.codes, codes.scale, codes.offset, codes.bits, added=codes.added
            )  # fmt: skip
        parts = [self._load(name) for name in names]
        weight = parts[0] if len(parts) == 1 else torch.cat(parts)
        if self.kernels is None:
            return products.table(weight, "bfloat16" if self._weights == "bf16" else "float32")
        return _dense(self.kernels.dense_function, weight, self._weights)

    def small(self, name: str) -> Tensor:
        """A norm, a bias or a head of a few rows, in fp32 of its own."""
        return self._load(name).to(torch.float32, copy=True).contiguous()

    def _all_codes(self, names: tuple[str, ...]) -> Codes | None:
        """None where one of them has none."""
        if self._weights == "int8":
            return joined([rounded(self._load(name)) for name in names])
        if self._weights != "packed" or self._codes is None:
            return None
        found = [self._codes(name) for name in names]
        whole = [codes for codes in found if codes is not None]
        return joined(whole) if len(whole) == len(names) else None


def layers_of(arch: Arch, held: Held) -> list[Layer[products.Product]]:
    """The blocks of a model, queries, keys and values as one product, and gate and up as one."""
    return [_layer(arch, held, number) for number in range(arch.n_layers)]


def _layer(arch: Arch, held: Held, number: int) -> Layer[products.Product]:
    block = f"blocks.{number}."
    attention = [f"{block}attn.{name}" for name in ("wq", "wk", "wv")]
    norms = ((f"{block}attn.{name}.weight", count) for name, count in (("q_norm", arch.n_heads), ("k_norm", arch.n_kv_heads)))
    return Layer(
        norm1=held.small(f"{block}norm1.weight"),
        qkv=held.product(*(f"{name}.weight" for name in attention)),
        bias=torch.cat([held.small(f"{name}.bias") for name in attention]) if arch.attention_bias else None,
        qk_norm=torch.cat([held.small(name).expand(count, -1) for name, count in norms]) if arch.qk_norm else None,
        rotates=number not in arch.no_rope_layers,
        out=held.product(f"{block}attn.wo.weight"),
        norm2=held.small(f"{block}norm2.weight"),
        gate_up=held.product(f"{block}mlp.w1.weight", f"{block}mlp.w3.weight"),
        down=held.product(f"{block}mlp.w2.weight"),
    )


def _dense(function: Function, weight: Tensor, weights: Weights) -> Dense:
    if weights == "bf16":
        return Brain(function, weight.bfloat16())
    return Exact(function, weight if weight.dtype is torch.float16 else weight.float())
