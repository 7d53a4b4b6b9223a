"""Products of matrices. Source of the semantics: coremltools ops/defs/iOS15/linear.py."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from runtime.mil.budget import affordable
from runtime.mil.ops.registry import Tensors, operation


@operation("linear", proof="ops/test_linear.py::test_linear")
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x: [..., D_in]; weight: [D_out, D_in]; bias: [D_out] → [..., D_out]."""
    if not x.is_floating_point():
        product = torch.matmul(x, weight.transpose(-1, -2))
        return product if bias is None else product + bias
    return F.linear(x, weight, bias)


@operation("matmul", proof="ops/test_linear.py::test_matmul")
def matmul(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    """numpy's matmul; a vector has nothing to transpose."""
    left = x.transpose(-1, -2) if transpose_x and x.dim() > 1 else x
    right = y.transpose(-1, -2) if transpose_y and y.dim() > 1 else y
    if left.dim() > 1 and right.dim() > 1:
        affordable(*np.broadcast_shapes(left.shape[:-2], right.shape[:-2]), left.shape[-2], right.shape[-1])
    return torch.matmul(left, right)


@operation("einsum", proof="ops/test_linear.py::test_einsum")
def einsum(values: Tensors, equation: str) -> Tensor:
    return torch.einsum(equation, *values)
