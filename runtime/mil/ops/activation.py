"""Activations. Source of the semantics: coremltools ops/defs/iOS15/activation.py."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from runtime.mil.ops.registry import operation

_PROOF = "ops/test_activation.py::test_activations_equal_their_formula"


@operation("relu", proof=_PROOF)
def relu(x: Tensor) -> Tensor:
    return torch.relu(x)


@operation("relu6", proof=_PROOF)
def relu6(x: Tensor) -> Tensor:
    return x.clamp(0.0, 6.0)


@operation("sigmoid", proof=_PROOF)
def sigmoid(x: Tensor) -> Tensor:
    return torch.sigmoid(x)


@operation("silu", proof=_PROOF)
def silu(x: Tensor) -> Tensor:
    return F.silu(x)


@operation("softplus", proof=_PROOF)
def softplus(x: Tensor) -> Tensor:
    return torch.logaddexp(x, torch.zeros((), dtype=x.dtype))


@operation("softsign", proof=_PROOF)
def softsign(x: Tensor) -> Tensor:
    return F.softsign(x)


@operation("gelu", proof=_PROOF, mode=frozenset({"EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION"}))
def gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    if mode == "EXACT":
        return F.gelu(x)
    if mode == "TANH_APPROXIMATION":
        return F.gelu(x, approximate="tanh")
    return x * torch.sigmoid(1.702 * x)


@operation("elu", proof=_PROOF)
def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    return torch.where(x > 0, x, alpha * torch.expm1(x))


@operation("leaky_relu", proof=_PROOF)
def leaky_relu(x: Tensor, alpha: float = 0.01) -> Tensor:
    return torch.where(x >= 0, x, alpha * x)


@operation("prelu", proof=_PROOF)
def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    """alpha: [C], for the channels of x [B, C, ...]."""
    return torch.where(x >= 0, x, _per_channel(alpha, x) * x)


@operation("clamped_relu", proof=_PROOF)
def clamped_relu(x: Tensor, alpha: float, beta: float) -> Tensor:
    return torch.minimum(torch.where(x >= 0, x, alpha * x), torch.tensor(beta, dtype=x.dtype))


@operation("linear_activation", proof=_PROOF)
def linear_activation(x: Tensor, alpha: float, beta: float = 0.0) -> Tensor:
    return alpha * x + beta


@operation("scaled_tanh", proof=_PROOF)
def scaled_tanh(x: Tensor, alpha: float = 1.0, beta: float = 1.0) -> Tensor:
    return alpha * torch.tanh(beta * x)


@operation("sigmoid_hard", proof=_PROOF)
def sigmoid_hard(x: Tensor, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    return (alpha * x + beta).clamp(0.0, 1.0)


@operation("softplus_parametric", proof=_PROOF)
def softplus_parametric(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """alpha, beta: [C], for the channels of x [B, C, ...]."""
    return _per_channel(alpha, x) * softplus(_per_channel(beta, x) * x)


@operation("thresholded_relu", proof=_PROOF)
def thresholded_relu(x: Tensor, alpha: float = 1.0) -> Tensor:
    return torch.where(x >= alpha, x, torch.zeros((), dtype=x.dtype))


@operation("softmax", proof="ops/test_activation.py::test_softmax_along_every_axis")
def softmax(x: Tensor, axis: int = -1) -> Tensor:
    return torch.softmax(x, axis)


def _per_channel(parameter: Tensor, x: Tensor) -> Tensor:
    return parameter.reshape(-1, *[1] * (x.dim() - 2))
