"""How eager holds a model's weights: as floats of some width, or as integer codes, each with the fastest products that this machine has for it.

Here: the choice for each weight, and the layers made of them. Not here: products (runtime/kernels, products.py), where codes come from (codes.py,
checkpoint_codes.py, package_codes.py), what is computed with a layer (forward.py, runtime/kernels/decoder.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, TypeAlias, Union

import numpy as np

from interlock.contracts.checkpoint import Arch
from runtime.backends.codes import Codes, joined, rounded
from runtime.kernels import Product, why
from runtime.kernels import load as load_kernels
from runtime.kernels.decoder import Layer
from runtime.kernels.products import Array, Floats, brain, single

if TYPE_CHECKING:
    from runtime.backends.products import Table

# fp32: every weight exactly as given; bf16: rounded; int8: rounded to blocks of codes; packed: the source's own codes, where it has them.
Weights = Literal["fp32", "bf16", "int8", "packed"]
# A tensor by its name, in fp32, fp16 or bf16 (as uint16): a mapping's `__getitem__`, or a reader of one at a time. It may be kept.
Load = Callable[[str], Array]
# The codes of a weight by its name, None where it has none.
LoadCodes = Callable[[str], Codes | None]
# The kernels' product, or without kernels torch's.
Matrix: TypeAlias = Union[Product, "Table"]


class Held:
    """The weights of one model by the student's names. notes: what was chosen, for a person; nbytes: of all matrices so far."""

    def __init__(self, load: Load, weights: Weights = "fp32", codes: LoadCodes | None = None) -> None:
        """codes: for `packed`. Without kernels values are the same and torch multiplies them, widened."""
        self._load, self._weights, self._codes = load, weights, codes
        self.kernels = load_kernels()
        self.nbytes = 0
        by = "kernels" if self.kernels else "multiplied by torch, codes widened to fp32"
        self.notes = (f"{weights} weights, {by}: {why()}",)

    def matrix(self, *names: str) -> Matrix:
        """Of some weights [N, K] below each other."""
        made = self._matrix(names)
        self.nbytes += made.nbytes
        return made

    def _matrix(self, names: tuple[str, ...]) -> Matrix:
        codes = self._all_codes(names)
        if codes is not None and self.kernels is not None:
            return self.kernels.blocks(codes.codes, codes.scale, codes.offset, codes.bits, added=codes.added)
        if codes is not None:
            return _in_torch(codes.values(), "fp32")
        parts = [self._load(name) for name in names]
        weight = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if self.kernels is None:
            return _in_torch(weight, self._weights)
        if self._weights == "bf16":
            return self.kernels.dense(brain(weight))
        return self.kernels.dense(weight if weight.dtype == np.float16 else single(weight))

    def small(self, name: str) -> Floats:
        """A norm, a bias or a head of a few rows, in fp32 of its own."""
        return np.array(single(self._load(name)), order="C")

    def _all_codes(self, names: tuple[str, ...]) -> Codes | None:
        """None where one of them has none."""
        if self._weights == "int8":
            return joined([rounded(self._load(name)) for name in names])
        if self._weights != "packed" or self._codes is None:
            return None
        found = [self._codes(name) for name in names]
        whole = [codes for codes in found if codes is not None]
        return joined(whole) if len(whole) == len(names) else None


def layers_of(arch: Arch, held: Held) -> list[Layer[Matrix]]:
    """The blocks of a model, queries, keys and values as one product, and gate and up as one."""
    return [_layer(arch, held, number) for number in range(arch.n_layers)]


def _layer(arch: Arch, held: Held, number: int) -> Layer[Matrix]:
    block = f"blocks.{number}."
    attention = [f"{block}attn.{name}" for name in ("wq", "wk", "wv")]
    norms = ((f"{block}attn.{name}.weight", count) for name, count in (("q_norm", arch.n_heads), ("k_norm", arch.n_kv_heads)))
    return Layer(
        norm1=held.small(f"{block}norm1.weight"),
        qkv=held.matrix(*(f"{name}.weight" for name in attention)),
        bias=np.concatenate([held.small(f"{name}.bias") for name in attention]) if arch.attention_bias else None,
        qk_norm=np.concatenate([np.tile(held.small(name), (count, 1)) for name, count in norms]) if arch.qk_norm else None,
        rotates=number not in arch.no_rope_layers,
        out=held.matrix(f"{block}attn.wo.weight"),
        norm2=held.small(f"{block}norm2.weight"),
        gate_up=held.matrix(f"{block}mlp.w1.weight", f"{block}mlp.w3.weight"),
        down=held.matrix(f"{block}mlp.w2.weight"),
    )


def _in_torch(weight: Array, weights: Weights) -> Table:
    from runtime.backends.products import table
    from runtime.backends.tensors import as_tensor

    return table(as_tensor(weight), "bfloat16" if weights == "bf16" else "float32")
