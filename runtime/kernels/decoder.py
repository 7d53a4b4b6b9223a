"""A whole decoder in C: one call takes some positions of some sequences through all layers.

    decoder = Decoder(kernels, shape, layers, tables, norm, head, halt)
    logits, halts, hidden = decoder.step(embeddings, [Sequence(slots, position, count), …])

Here: what C is told of a model, and the call. Not here: the C (csrc/step.h), a backend's caches and what they may hold (runtime/backends/eager.py).
Why: between the products of one token lie a thousand small operations, which take torch 11 ms and C below one (SmolLM2-135M). Rows of a call do not
meet in any sum, so every row is bit for bit what it is alone, with any number of threads.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from runtime.kernels.products import Dense, Kernels, Product

# A narrow matrix (576 outputs) has 36 groups of rows: more threads would wait for each other longer than they work.
MOST_THREADS = 8


@dataclass(frozen=True)
class Shape:
    """window: positions that one position sees, itself included; None: all. epsilon: of the norms."""

    d_model: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_ff: int
    window: int | None
    epsilon: float


Product_co = TypeVar("Product_co", covariant=True)


@dataclass(frozen=True)
class Layer(Generic[Product_co]):
    """One block. norms: fp32 [d]; qkv: [(H + 2·H_kv)·D, d], its bias fp32; qk_norm: fp32 [H + H_kv, D]; out: [d, H·D]; gate_up: [2·d_ff, d];
    down: [d, d_ff]; rotates: whether queries and keys are."""

    norm1: Tensor
    qkv: Product_co
    bias: Tensor | None
    qk_norm: Tensor | None
    rotates: bool
    out: Product_co
    norm2: Tensor
    gate_up: Product_co
    down: Product_co


@dataclass(frozen=True)
class Sequence:
    """`count` new positions from `position` on in a cache, fp32 [L, 2, H_kv, room, D], contiguous, with room for them."""

    slots: Tensor
    position: int
    count: int


class _Matrix(ctypes.Structure):
    _fields_ = (("dense", ctypes.c_void_p), ("blocks", ctypes.c_void_p))


class _Layer(ctypes.Structure):
    _fields_ = (
        ("norm1", ctypes.c_void_p), ("qkv", _Matrix), ("bias", ctypes.c_void_p), ("qk_norm", ctypes.c_void_p), ("out", _Matrix),
        ("norm2", ctypes.c_void_p), ("gate_up", _Matrix), ("down", _Matrix), ("rotates", ctypes.c_int64),
    )  # fmt: skip


class _Model(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("d", "heads", "kv_heads", "d_head", "d_ff", "layers", "vocabulary", "window")),
        ("cos", ctypes.c_void_p), ("sin", ctypes.c_void_p), ("layer", ctypes.c_void_p), ("norm", ctypes.c_void_p), ("head", _Matrix),
        ("halt", _Matrix), ("halt_bias", ctypes.c_void_p), ("epsilon", ctypes.c_float),
    )  # fmt: skip


class _Sequence(ctypes.Structure):
    _fields_ = (("slots", ctypes.c_void_p), *((name, ctypes.c_int64) for name in ("room", "position", "count")))


class Decoder:
    """The weights stay where they are and are shared; calls on different caches may run at once."""

    def __init__(
        self,
        kernels: Kernels,
        shape: Shape,
        layers: Many[Layer[object]],
        tables: tuple[Tensor, Tensor],
        norm: Tensor,
        head: object,
        halt: tuple[Tensor, Tensor] | None,
    ) -> None:
        """Every product is one of these kernels. tables: cos and sin, fp32 [positions, D/2]; norm: fp32 [d], after the last block; halt: weight and
        bias, fp32 [2, d] and [2]."""
        self._step, self._shape, self._head = kernels.step_function, shape, _own(head)
        self._halt = kernels.dense(halt[0]) if halt else None
        self._positions = len(tables[0])
        # What C points to must live as long as this does.
        self._kept = (layers, tables, norm, halt)
        self._layers = (_Layer * len(layers))(*map(_described, layers))
        self._model = _Model(
            shape.d_model, shape.n_heads, shape.n_kv_heads, shape.d_head, shape.d_ff, len(layers), self._head.n, shape.window or 0,
            _floats(tables[0]), _floats(tables[1]), ctypes.addressof(self._layers), _floats(norm), _matrix(head),
            _matrix(self._halt) if self._halt else _Matrix(), _floats(halt[1]) if halt else None, shape.epsilon,
        )  # fmt: skip

    def step(self, inputs: Tensor, sequences: Many[Sequence]) -> tuple[Tensor, Tensor | None, Tensor]:
        """inputs: fp32 [rows, d], those of the sequences in turn; their slots are written.

        Returns logits [rows, V], halt logits [rows, 2] and hidden states after the final norm [rows, d], all fp32 and new. As many threads as torch.
        """
        rows = sum(sequence.count for sequence in sequences)
        if inputs.shape != (rows, self._shape.d_model) or inputs.dtype is not torch.float32:
            raise ValueError(f"fp32 [{rows}, {self._shape.d_model}], not {inputs.dtype} {tuple(inputs.shape)}")
        hidden = inputs.clone(memory_format=torch.contiguous_format)
        logits = torch.empty(rows, self._head.n)
        halts = torch.empty(rows, 2) if self._halt else None
        described = (_Sequence * len(sequences))(*map(self._place, sequences))
        halt_at = None if halts is None else halts.data_ptr()
        model = ctypes.addressof(self._model)
        threads = min(torch.get_num_threads(), MOST_THREADS)
        if self._step(model, described, len(described), hidden.data_ptr(), logits.data_ptr(), halt_at, threads):
            raise MemoryError(f"no memory for a step of {rows} rows")
        return logits, halts, hidden

    def _place(self, sequence: Sequence) -> _Sequence:
        slots = sequence.slots
        expected = (len(self._layers), 2, self._shape.n_kv_heads, slots.shape[3], self._shape.d_head)
        fits = slots.shape == expected and slots.dtype is torch.float32 and slots.is_contiguous()
        if not fits or not 0 <= sequence.position <= sequence.position + sequence.count <= min(slots.shape[3], self._positions):
            raise ValueError(f"a cache of {expected}, not {tuple(slots.shape)}, for positions {sequence.position} and {sequence.count} more")
        return _Sequence(slots.data_ptr(), slots.shape[3], sequence.position, sequence.count)


def _described(layer: Layer[object]) -> _Layer:
    norm1, bias, qk_norm, norm2 = (None if part is None else _floats(part) for part in (layer.norm1, layer.bias, layer.qk_norm, layer.norm2))
    matrices = [_matrix(part) for part in (layer.qkv, layer.out, layer.gate_up, layer.down)]
    return _Layer(norm1, matrices[0], bias, qk_norm, matrices[1], norm2, matrices[2], matrices[3], layer.rotates)


def _matrix(product: object) -> _Matrix:
    return _Matrix(_own(product).address, None) if isinstance(product, Dense) else _Matrix(None, _own(product).address)


def _own(product: object) -> Product:
    if not isinstance(product, Product):
        raise TypeError(f"a product of runtime/kernels, not {type(product).__name__}")
    return product


def _floats(tensor: Tensor) -> int:
    if tensor.dtype is not torch.float32 or not tensor.is_contiguous() or not tensor.is_cpu:
        raise ValueError(f"contiguous fp32 on the CPU, not {tensor.dtype} {tuple(tensor.shape)} on {tensor.device}")
    return tensor.data_ptr()
