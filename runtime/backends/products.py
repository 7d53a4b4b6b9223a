"""Weights in the layout in which their matrix product is fastest.

Here: a weight [N, K] and x·Wᵀ for one vector and for many rows. Not here: what the products are for (eager.py), packed integers
(runtime/kernels).

Figures in this file: one thread, the 121 matrices of SmolLM2-135M (538 MB in fp32), an AVX-512 core that reads 28 GB/s.
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from runtime import kernels

Dtype = Literal["float32", "bfloat16"]
TILE = 32
# From here on one product over a copy in [K, N] beats a batch of tiles (at 128 rows it costs 10 % more, at 512 it saves 7 %).
UNTILE_ROWS = 256
# Elements that are laid out at a time, so that little is held beside the result. Smaller parts cost more calls (2^17 takes twice the time).
PART = 1 << 20


class Stored(Protocol):
    """A matrix [N, K] of any float dtype, read by rows: a tensor, or what makes a few rows at a time."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: slice, /) -> Tensor:
        """Consecutive rows, from a multiple of `TILE` or all, on the CPU."""


class Product(Protocol):
    """One weight [N, K], in whatever type. Inputs and results are fp32."""

    @property
    def nbytes(self) -> int:
        """Memory that it holds."""

    def vector(self, x: Tensor) -> Tensor:
        """x: [K] → [N]."""

    def rows(self, x: Tensor) -> Tensor:
        """x: [T, K] → [T, N]."""


class Table(Product, Protocol):
    """A weight whose own rows are read too: the embedding, which may also be the head."""

    def select(self, index: Tensor) -> Tensor:
        """index: int64 [T] → [T, K] fp32."""


class Tiled:
    """fp32 in tiles of 32 outputs, [⌈N/32⌉, K, 32]: a batch of narrow products, which read the weight strictly in order.

    MKL's matrix-vector product reads 10 GB/s from [N, K] and 11 to 19 from [K, N]; this form reads 25, because 32 columns are what its kernel
    keeps in registers (48 and more fall below 15). Many rows cost 4 to 8 % more than in the plain layout.
    """

    def __init__(self, weight: Stored) -> None:
        self.n, self.k = weight.shape
        self.weight = torch.empty(-(-self.n // TILE), self.k, TILE)
        self.nbytes = self.weight.nbytes
        step = max(1, PART // (TILE * max(self.k, 1))) * TILE
        for start in range(0, self.n, step):
            rows = weight[start : start + step]
            if len(rows) % TILE:
                rows = F.pad(rows, (0, 0, 0, -len(rows) % TILE))
            # turned first, widened after: a weight in 16 bits takes half the time on the way
            turned = rows.reshape(-1, TILE, self.k).transpose(1, 2).contiguous()
            self.weight[start // TILE : start // TILE + len(turned)] = turned

    def vector(self, x: Tensor) -> Tensor:
        return torch.bmm(x.expand(len(self.weight), 1, self.k), self.weight).view(-1)[: self.n]

    def rows(self, x: Tensor) -> Tensor:
        if len(x) >= UNTILE_ROWS:
            return torch.mm(x, self.weight.transpose(0, 1).reshape(self.k, -1))[:, : self.n]
        tiles = torch.bmm(x.expand(len(self.weight), -1, self.k), self.weight)
        return tiles.transpose(0, 1).reshape(len(x), -1)[:, : self.n]

    def select(self, index: Tensor) -> Tensor:
        return self.weight[index // TILE, :, index % TILE]


class Plain:
    """fp32 as stored, [N, K]: for a torch without MKL, where a batch of narrow products is a loop."""

    def __init__(self, weight: Stored) -> None:
        self.weight = weight[:].float()
        self.nbytes = self.weight.nbytes

    def vector(self, x: Tensor) -> Tensor:
        return torch.mv(self.weight, x)

    def rows(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)

    def select(self, index: Tensor) -> Tensor:
        return self.weight[index]


class PlainBFloat16:
    """bfloat16 as stored, [N, K]: half the memory, and many rows on the processor's bf16 units (AMX, AVX-512 BF16)."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight.bfloat16()
        self.nbytes = self.weight.nbytes

    def vector(self, x: Tensor) -> Tensor:
        return F.linear(x.bfloat16(), self.weight).float()

    def rows(self, x: Tensor) -> Tensor:
        return F.linear(x.bfloat16(), self.weight).float()

    def select(self, index: Tensor) -> Tensor:
        return self.weight[index].float()


class PackedBFloat16:
    """bfloat16 in oneDNN's own blocked order: 128 rows take 0.77 of the plain form's time and one vector 0.65. Its rows cannot be read back.

    These are the operators that torch.compile emits for a constant weight; torch has no public name for them in eager mode.
    """

    def __init__(self, weight: Tensor) -> None:
        # The second argument is the expected number of rows; layouts for 1 and for 128 measured the same.
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.bfloat16(), 1)
        self.nbytes = 2 * weight.numel()

    def vector(self, x: Tensor) -> Tensor:
        return self.rows(x[None])[0]

    def rows(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x.bfloat16(), self.weight, None, "none", [], "")
        return out.float()


class OfKernels:
    """A product of runtime/kernels between tensors: their memory is shared, not copied."""

    def __init__(self, product: kernels.Product) -> None:
        self._product, self.nbytes = product, product.nbytes

    def vector(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self._product.vector(x.numpy()))

    def rows(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self._product.rows(x.numpy()))

    def select(self, index: Tensor) -> Tensor:
        return torch.from_numpy(self._product.select(index.numpy()))


def product(weight: Stored, dtype: Dtype) -> Product:
    """The fastest product that this torch build has for a weight."""
    return PackedBFloat16(weight[:]) if dtype == "bfloat16" and can_pack() else table(weight, dtype)


def can_pack() -> bool:
    """Whether this torch build and processor have PackedBFloat16 (oneDNN, and AVX-512 or better on x86)."""
    return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())  # type: ignore[no-untyped-call]


def table(weight: Stored, dtype: Dtype) -> Table:
    """The same for a weight whose rows are also looked up."""
    if dtype == "bfloat16":
        return PlainBFloat16(weight[:])
    return Tiled(weight) if torch.backends.mkl.is_available() else Plain(weight)  # type: ignore[no-untyped-call]
