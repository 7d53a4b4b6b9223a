"""Activations against their published formulas, in double."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fakes.programs import evaluate

ERF = np.vectorize(math.erf)
FORMULAS: dict[str, tuple[dict[str, Any], Callable[..., Any]]] = {
    "relu": ({}, lambda x: np.maximum(x, 0)),
    "relu6": ({}, lambda x: np.clip(x, 0, 6)),
    "sigmoid": ({}, lambda x: 1 / (1 + np.exp(-x))),
    "silu": ({}, lambda x: x / (1 + np.exp(-x))),
    "softplus": ({}, lambda x: np.logaddexp(x, 0)),
    "softsign": ({}, lambda x: x / (1 + np.abs(x))),
    "elu": ({"alpha": 0.7}, lambda x: np.where(x > 0, x, 0.7 * np.expm1(x))),
    "leaky_relu": ({"alpha": 0.2}, lambda x: np.where(x > 0, x, 0.2 * x)),
    "clamped_relu": ({"alpha": 0.2, "beta": 3.0}, lambda x: np.minimum(3, np.where(x > 0, x, 0.2 * x))),
    "linear_activation": ({"alpha": 0.2, "beta": 3.0}, lambda x: 0.2 * x + 3),
    "scaled_tanh": ({"alpha": 1.5, "beta": 0.5}, lambda x: 1.5 * np.tanh(0.5 * x)),
    "sigmoid_hard": ({"alpha": 0.3, "beta": 0.4}, lambda x: np.clip(0.3 * x + 0.4, 0, 1)),
    "thresholded_relu": ({"alpha": 1.5}, lambda x: np.where(x >= 1.5, x, 0)),
    "gelu": ({"mode": "EXACT"}, lambda x: x * (1 + ERF(x / np.sqrt(2))) / 2),
}


@pytest.mark.parametrize("name", list(FORMULAS))
def test_activations_equal_their_formula(name: str) -> None:
    x = np.random.default_rng(0).normal(0, 4, (2, 3, 4)).astype(np.float32)
    options, formula = FORMULAS[name]
    np.testing.assert_allclose(evaluate(name, x=x, **options), formula(x.astype(np.float64)), rtol=2e-5, atol=1e-6)


def test_approximations_of_gelu() -> None:
    x = np.linspace(-4, 4, 17, dtype=np.float32)
    tanh = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    np.testing.assert_allclose(evaluate("gelu", x=x, mode="TANH_APPROXIMATION"), tanh, atol=1e-5)
    np.testing.assert_allclose(evaluate("gelu", x=x, mode="SIGMOID_APPROXIMATION"), x / (1 + np.exp(-1.702 * x)), atol=1e-5)


def test_parameters_per_channel() -> None:
    x = np.random.default_rng(0).normal(0, 2, (2, 3, 4, 5)).astype(np.float32)
    alpha, beta = np.array([0.1, 0.5, 2], np.float32), np.array([1, 0.5, 2], np.float32)
    a, b = alpha[:, None, None], beta[:, None, None]
    np.testing.assert_allclose(evaluate("prelu", x=x, alpha=alpha), np.where(x >= 0, x, a * x))
    np.testing.assert_allclose(evaluate("softplus_parametric", x=x, alpha=alpha, beta=beta), a * np.logaddexp(b * x, 0), rtol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_along_every_axis(axis: int) -> None:
    x = np.random.default_rng(0).normal(0, 30, (3, 4, 5)).astype(np.float32)
    powers = np.exp(x.astype(np.float64) - x.max(axis, keepdims=True))
    np.testing.assert_allclose(evaluate("softmax", x=x, axis=axis), powers / powers.sum(axis, keepdims=True), rtol=1e-5, atol=1e-9)
