"""Normalisations against torch in double."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fakes.programs import evaluate

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.normal(1, 2, shape).astype(np.float32)


def double(array: Any) -> torch.Tensor:
    return torch.from_numpy(array).double()


@pytest.mark.parametrize("axes", [(-1,), (1, 2), (0, 1, 2)])
def test_layer_norm(axes: tuple[int, ...]) -> None:
    x = normal(2, 3, 4)
    shape = [x.shape[axis] for axis in axes]
    gamma, beta = normal(*shape), normal(*shape)
    expected = F.layer_norm(double(x), shape, double(gamma), double(beta), 1e-3)
    np.testing.assert_allclose(evaluate("layer_norm", x=x, axes=axes, gamma=gamma, beta=beta, epsilon=1e-3), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 5), (1, 3, 2, 2, 2)])
def test_batch_norm(shape: tuple[int, ...]) -> None:
    x, mean, gamma, beta = normal(*shape), normal(3), normal(3), normal(3)
    variance = np.abs(normal(3)) + 0.1
    expected = F.batch_norm(*(double(part) for part in (x, mean, variance, gamma, beta)), eps=1e-3)
    found = evaluate("batch_norm", x=x, mean=mean, variance=variance, gamma=gamma, beta=beta, epsilon=1e-3)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_instance_norm() -> None:
    x, gamma, beta = normal(2, 3, 4, 5), normal(3), normal(3)
    expected = F.instance_norm(double(x), weight=double(gamma), bias=double(beta), eps=1e-3)
    np.testing.assert_allclose(evaluate("instance_norm", x=x, gamma=gamma, beta=beta, epsilon=1e-3), expected, rtol=1e-4, atol=1e-5)


def test_l2_norm() -> None:
    x = normal(2, 3, 4, 5)
    expected = x / np.sqrt((x.astype(np.float64) ** 2).sum((1, 2, 3), keepdims=True) + 1e-3)
    np.testing.assert_allclose(evaluate("l2_norm", x=x, epsilon=1e-3), expected, rtol=1e-5)


def test_local_response_norm() -> None:
    x = normal(2, 6, 4, 5)
    expected = F.local_response_norm(double(x), 3, 0.01, 0.6, 2.0)
    np.testing.assert_allclose(evaluate("local_response_norm", x=x, size=3, alpha=0.01, beta=0.6, k=2.0), expected, rtol=1e-4)
