"""Normalisations. Source of the semantics: coremltools ops/defs/iOS15/normalization.py."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from runtime.mil.ops.registry import Ints, operation


@operation("layer_norm", proof="ops/test_norm.py::test_layer_norm")
def layer_norm(x: Tensor, axes: Ints | None = None, gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: float = 1e-5) -> Tensor:
    """gamma, beta: the shape of x along `axes` (default all), which need not be the last."""
    over = sorted(axis % x.dim() for axis in axes) if axes is not None else list(range(x.dim()))
    centred = x - x.mean(over, keepdim=True)
    scaled = centred * torch.rsqrt((centred * centred).mean(over, keepdim=True) + epsilon)
    shape = [size if axis in over else 1 for axis, size in enumerate(x.shape)]
    scaled = scaled if gamma is None else scaled * gamma.reshape(shape)
    return scaled if beta is None else scaled + beta.reshape(shape)


@operation("batch_norm", proof="ops/test_norm.py::test_batch_norm")
def batch_norm(x: Tensor, mean: Tensor, variance: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: float = 1e-5) -> Tensor:
    """x: [B, C, ...]; the others [C]."""
    return F.batch_norm(x, mean, variance, gamma, beta, False, 0.0, epsilon)


@operation("instance_norm", proof="ops/test_norm.py::test_instance_norm")
def instance_norm(x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: float = 1e-5) -> Tensor:
    """x: [B, C, ...]; gamma, beta: [C]."""
    over = tuple(range(2, x.dim()))
    centred = x - x.mean(over, keepdim=True)
    scaled = centred * torch.rsqrt((centred * centred).mean(over, keepdim=True) + epsilon)
    shape = (-1, *[1] * len(over))
    scaled = scaled if gamma is None else scaled * gamma.reshape(shape)
    return scaled if beta is None else scaled + beta.reshape(shape)


@operation("l2_norm", proof="ops/test_norm.py::test_l2_norm")
def l2_norm(x: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Over the last three axes."""
    return x * torch.rsqrt((x * x).sum((-3, -2, -1), keepdim=True) + epsilon)


@operation("local_response_norm", proof="ops/test_norm.py::test_local_response_norm")
def local_response_norm(x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """x: [B, C, ...]; the sum is over `size` channels around each."""
    return F.local_response_norm(x, size, alpha, beta, k)
