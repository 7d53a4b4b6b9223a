"""Recurrent layers, step by step. Source of the semantics: coremltools ops/defs/iOS15/recurrent.py; iOS18 for `reset_after`.

x: [S, B, I]; weights [gates·H, I] and [gates·H, H]. A layer in reverse reads the last step first, and
its outputs stand in the order in which they were made: coremltools' own tests flip the input and not the output (ops/tests/iOS14/test_recurrent.py).
Of a bidirectional layer both halves stand at the steps they belong to.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from runtime.mil.ops.registry import operation

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "linear": lambda x: x,
    # with the constants of the same tests: 0.2 and 0.5; scaled by one, which is tanh itself
    "hard_sigmoid": lambda x: (0.2 * x + 0.5).clamp(0.0, 1.0),
    "sigmoid_hard": lambda x: (0.2 * x + 0.5).clamp(0.0, 1.0),
    "scaled_tanh": torch.tanh,
}


_NAMES = frozenset(_ACTIVATIONS)
_ONE_WAY = frozenset({"forward", "reverse"})


@operation(
    "lstm",
    proof="ops/test_recurrent.py::test_lstm_equals_torch",
    direction=_ONE_WAY | {"bidirectional"},
    recurrent_activation=_NAMES,
    cell_activation=_NAMES,
    activation=_NAMES,
)
def lstm(
    x: Tensor,
    initial_h: Tensor,
    initial_c: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None = None,
    peephole: Tensor | None = None,
    weight_ih_back: Tensor | None = None,
    weight_hh_back: Tensor | None = None,
    bias_back: Tensor | None = None,
    peephole_back: Tensor | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    cell_activation: str = "tanh",
    activation: str = "tanh",
    clip: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gates in the order input, forget, output, cell. Returns [S or 1, B, directions·H], and the last h and c [B, directions·H]."""
    gate, cell, out = _activation(recurrent_activation), _activation(cell_activation), _activation(activation)

    def run(
        h: Tensor, c: Tensor, weights: tuple[Tensor, Tensor, Tensor | None, Tensor | None], backward: bool
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        w_in, w_h, b, peep = weights
        outputs = []
        for step in reversed(x) if backward else x:
            i, f, o, z = (step @ w_in.T + h @ w_h.T + (0 if b is None else b)).chunk(4, -1)
            p_i, p_f, p_o = (0, 0, 0) if peep is None else peep.chunk(3)
            c = gate(f + p_f * c) * c + gate(i + p_i * c) * cell(z)
            c = c if clip is None else c.clamp(-clip, clip)
            h = gate(o + p_o * c) * out(c)
            outputs.append(h)
        return outputs, h, c

    first = (weight_ih, weight_hh, bias, peephole)
    if direction != "bidirectional":
        outputs, h, c = run(initial_h, initial_c, first, _backward(direction))
        return _sequence(outputs, h, output_sequence), h, c
    if weight_ih_back is None or weight_hh_back is None:
        raise ValueError("both directions without weights for the second")
    (h_one, h_two), (c_one, c_two) = initial_h.chunk(2, -1), initial_c.chunk(2, -1)
    ahead, h_one, c_one = run(h_one, c_one, first, False)
    back, h_two, c_two = run(h_two, c_two, (weight_ih_back, weight_hh_back, bias_back, peephole_back), True)
    h, c = torch.cat([h_one, h_two], -1), torch.cat([c_one, c_two], -1)
    return _sequence([torch.cat(pair, -1) for pair in zip(ahead, reversed(back), strict=True)], h, output_sequence), h, c


@operation("gru", proof="ops/test_recurrent.py::test_gru_equals_torch", direction=_ONE_WAY, recurrent_activation=_NAMES, activation=_NAMES)
def gru(
    x: Tensor,
    initial_h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    activation: str = "tanh",
    reset_after: bool = False,
    input_bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Gates in the order reset, output, update. reset_after: the reset gate multiplies the product and its bias, else what is multiplied."""
    gate, out = _activation(recurrent_activation), _activation(activation)
    backward, h = _backward(direction), initial_h
    w_r, w_o, w_z = weight_hh.chunk(3)
    b_r, b_o, b_z = (torch.zeros(()),) * 3 if bias is None else bias.chunk(3)
    outputs = []
    for step in reversed(x) if backward else x:
        i_r, i_o, i_z = (step @ weight_ih.T + (0 if input_bias is None else input_bias)).chunk(3, -1)
        r, z = gate(i_r + h @ w_r.T + b_r), gate(i_z + h @ w_z.T + b_z)
        o = out(i_o + (r * (h @ w_o.T + b_o) if reset_after else (r * h) @ w_o.T + b_o))
        h = (1 - z) * o + z * h
        outputs.append(h)
    return _sequence(outputs, h, output_sequence), h


@operation("rnn", proof="ops/test_recurrent.py::test_rnn_equals_torch", direction=_ONE_WAY, activation=_NAMES)
def rnn(
    x: Tensor,
    initial_h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    activation: str = "tanh",
) -> tuple[Tensor, Tensor]:
    out, backward, h = _activation(activation), _backward(direction), initial_h
    outputs = []
    for step in reversed(x) if backward else x:
        h = out(step @ weight_ih.T + h @ weight_hh.T + (0 if bias is None else bias))
        outputs.append(h)
    return _sequence(outputs, h, output_sequence), h


def _sequence(outputs: list[Tensor], last: Tensor, every: bool) -> Tensor:
    return torch.stack(outputs) if every else last.unsqueeze(0)


def _backward(direction: str) -> bool:
    return direction == "reverse"


def _activation(name: str) -> Callable[[Tensor], Tensor]:
    return _ACTIVATIONS[name]
