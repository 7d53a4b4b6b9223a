"""Weights multiplied as a package stores them: fp16, and integers with a scale per block, by the C kernels.

Here: which constant becomes which product. Not here: the products (runtime/kernels), layouts for fp32 (runtime/mil/weights.py).
The kernels multiply scale · (code - offset) itself, where the format rounds that to fp16: half a unit in the last place of fp16 apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.backends.products import OfKernels, Product
from runtime.kernels import Product as Packed
from runtime.kernels import load, why
from runtime.mil.program import TensorType
from runtime.mil.weights import Computed, Fixed, Matrix, Selects, Weights, release

Form = tuple[object, ...]


class PackedWeights(Weights):
    """As Weights, with products on stored bytes where this machine has kernels."""

    def __init__(self) -> None:
        super().__init__()
        self._kernels = load()
        self._made: dict[tuple[object, ...], OfKernels] = {}
        self.notes = (f"packed weights: {why()}",) if self._kernels else (f"weights widened to fp32: {why()}",)

    def rows(self, matrix: Matrix) -> Selects:
        """A compressed table is read where its product reads it: a tied embedding is held once."""
        return self._packed(matrix) if self._kernels is not None and form(matrix.parts[0])[0] == "blocks" else super().rows(matrix)

    def product(self, matrix: Matrix) -> Product:
        return super().product(matrix) if self._kernels is None or form(matrix.parts[0])[0] == "dense" else self._packed(matrix)

    def _packed(self, matrix: Matrix) -> OfKernels:
        assert self._kernels is not None
        key = matrix.key()
        if key not in self._made:
            if form(matrix.parts[0])[0] == "half":
                made: Packed = self._kernels.dense(np.concatenate([part.array() for part in matrix.parts]))
            else:
                parts = [_blocks(part) for part in matrix.parts]
                codes, scale = (np.concatenate([part[at] for part in parts]) for at in (0, 1))
                offset = np.concatenate([part[2] for part in parts if part[2] is not None]) if parts[0][2] is not None else None
                made = self._kernels.blocks(codes, scale, offset, parts[0][3])
            self._made[key] = OfKernels(made)
            self.size_bytes += made.nbytes
            for part in matrix.parts:
                release(part)
        return self._made[key]


def form(constant: Fixed) -> Form:
    """How a matrix is stored, as far as products care: equal for those that can stand in one product. ("dense",) for none of the kernels' forms."""
    kind = constant.type
    half = isinstance(kind, TensorType) and kind.dtype.mil == "fp16"
    if isinstance(constant, Computed) and constant.operation.type == "constexpr_blockwise_shift_scale":
        data, scale, offset = (constant.given.get(name) for name in ("data", "scale", "offset"))
        codes, scales = _type(data), _type(scale)
        if codes.dtype.bits in (4, 8) and codes.shape and scales.shape and scales.shape[0] == codes.shape[0] and scales.dtype.mil in ("fp16", "fp32"):
            return ("blocks", codes.dtype, codes.shape[1], scales.shape[1], scales.dtype, None if offset is None else _type(offset).dtype)
    return ("half",) if half else ("dense",)


def _type(constant: Fixed | None) -> TensorType:
    assert constant is not None and isinstance(constant.type, TensorType)
    return constant.type


def _blocks(constant: Fixed) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None, int]:
    """(codes, scale, offset, bits)."""
    assert isinstance(constant, Computed)
    given = constant.given
    offset = given["offset"].array() if "offset" in given else None
    return given["data"].array(), given["scale"].array(), offset, _type(given["data"]).dtype.bits
