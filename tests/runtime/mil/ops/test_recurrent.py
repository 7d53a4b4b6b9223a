"""Recurrent layers against torch's, whose gates stand in another order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fakes.programs import evaluate
from torch import nn

STEPS, BATCH, GIVEN, H = 5, 2, 3, 4


def reordered(weight: torch.Tensor, order: tuple[int, ...]) -> np.ndarray[Any, Any]:
    parts = weight.detach().chunk(len(order))
    return torch.cat([parts[at] for at in order]).numpy().copy()


def arrays(*tensors: torch.Tensor) -> list[np.ndarray[Any, Any]]:
    return [tensor.detach().numpy() for tensor in tensors]


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_lstm_equals_torch(direction: str) -> None:
    """torch's gates are input, forget, cell, output; MIL's input, forget, output, cell. In reverse the outputs keep the order of the work."""
    torch.manual_seed(0)
    ways = 2 if direction == "bidirectional" else 1
    layer, order = nn.LSTM(GIVEN, H, bidirectional=ways == 2), (0, 1, 3, 2)
    x, h, c = torch.randn(STEPS, BATCH, GIVEN), torch.randn(ways, BATCH, H), torch.randn(ways, BATCH, H)
    with torch.no_grad():
        expected, (last_h, last_c) = layer(x.flip(0) if direction == "reverse" else x, (h, c))
    weights: dict[str, Any] = {}
    for suffix, back in (("", ""), ("_reverse", "_back"))[:ways]:
        weights[f"weight_ih{back}"] = reordered(getattr(layer, f"weight_ih_l0{suffix}"), order)
        weights[f"weight_hh{back}"] = reordered(getattr(layer, f"weight_hh_l0{suffix}"), order)
        weights[f"bias{back}"] = reordered(getattr(layer, f"bias_ih_l0{suffix}") + getattr(layer, f"bias_hh_l0{suffix}"), order)
    start = {"initial_h": torch.cat(list(h), -1).numpy(), "initial_c": torch.cat(list(c), -1).numpy()}
    found = evaluate("lstm", out=("fp32",) * 3, x=x.numpy(), **start, **weights, direction=direction, output_sequence=True)
    for one, other in zip(found, arrays(expected, torch.cat(list(last_h), -1), torch.cat(list(last_c), -1)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_gru_equals_torch(direction: str) -> None:
    """torch's gates are reset, update, new; MIL's reset, output, update. torch resets after the product."""
    torch.manual_seed(0)
    layer, order = nn.GRU(GIVEN, H), (0, 2, 1)
    x, h = torch.randn(STEPS, BATCH, GIVEN), torch.randn(1, BATCH, H)
    with torch.no_grad():
        expected, last = layer(x.flip(0) if direction == "reverse" else x, h)
    weights = {name: reordered(getattr(layer, f"{name}_l0"), order) for name in ("weight_ih", "weight_hh")}
    biases = {"input_bias": reordered(layer.bias_ih_l0, order), "bias": reordered(layer.bias_hh_l0, order)}
    options = {"reset_after": True, "output_sequence": True, "direction": direction}
    found = evaluate("gru", out=("fp32",) * 2, x=x.numpy(), initial_h=h[0].numpy(), **weights, **biases, **options)
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[1], last[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_rnn_equals_torch(activation: str) -> None:
    torch.manual_seed(0)
    layer = nn.RNN(GIVEN, H, nonlinearity=activation)
    x, h = torch.randn(STEPS, BATCH, GIVEN), torch.randn(1, BATCH, H)
    with torch.no_grad():
        expected, _ = layer(x, h)
    weights = {"weight_ih": layer.weight_ih_l0, "weight_hh": layer.weight_hh_l0, "bias": layer.bias_ih_l0 + layer.bias_hh_l0}
    given = {name: weight.detach().numpy() for name, weight in weights.items()}
    found = evaluate("rnn", out=("fp32",) * 2, x=x.numpy(), initial_h=h[0].numpy(), **given, activation=activation)
    np.testing.assert_allclose(found[0], expected[-1:], rtol=1e-4, atol=1e-6)


def test_lstm_clips_what_it_remembers_and_looks_through_peepholes() -> None:
    """The formulas of the documentation, one step at a time; where clipping stands is from coremltools' tests: after the sum, before the output."""
    rng = np.random.default_rng(0)
    x, h, c = (rng.normal(0, 1, shape).astype(np.float32) for shape in ((STEPS, BATCH, GIVEN), (BATCH, H), (BATCH, H)))
    w_x, w_h, peep = (rng.normal(0, 1, shape).astype(np.float32) for shape in ((4 * H, GIVEN), (4 * H, H), 3 * H))
    options = {"peephole": peep, "clip": 0.4, "output_sequence": True, "recurrent_activation": "hard_sigmoid", "cell_activation": "scaled_tanh"}
    found = evaluate("lstm", out=("fp32",) * 3, x=x, initial_h=h, initial_c=c, weight_ih=w_x, weight_hh=w_h, **options)
    for step, output in zip(x, found[0], strict=True):
        i, f, o, z = np.split(step @ w_x.T + h @ w_h.T, 4, -1)
        p_i, p_f, p_o = np.split(peep, 3)
        i, f = (np.clip(0.2 * (part + p * c) + 0.5, 0, 1) for part, p in ((i, p_i), (f, p_f)))
        c = np.clip(f * c + i * np.tanh(z), -0.4, 0.4)
        h = np.clip(0.2 * (o + p_o * c) + 0.5, 0, 1) * np.tanh(c)
        np.testing.assert_allclose(output, h, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[2], c, rtol=1e-4, atol=1e-6)
