"""A whole decoder in C: one call takes some positions of some sequences through all layers.

    decoder = Decoder(kernels, shape, layers, tables, norm, head, halt)
    logits, halts, hidden = decoder.step(embeddings, [Sequence(slots, position, count), …])
    logits, halts, hidden = decoder.prompt(embeddings, Sequence(slots, position, count))

Here: what C is told of a model, and the call. Not here: the C (csrc/step.h), a backend's caches and what they may hold (runtime/backends/eager.py).
Why: between the products of one token lie a thousand small operations, which take torch 11 ms and C below one (SmolLM2-135M). Rows of a call do not
meet in any sum, so every row is bit for bit what it is alone, with any number of threads.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

import numpy as np

from runtime.kernels import threads
from runtime.kernels.products import Dense, Floats, Kernels, Product, address

# Logits [rows, V], halt logits [rows, 2] where there is a halt head, and hidden states after the final norm [rows, d]: fp32, and the caller's own.
Said: TypeAlias = tuple[Floats, Floats | None, Floats]
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

    norm1: Floats
    qkv: Product_co
    bias: Floats | None
    qk_norm: Floats | None
    rotates: bool
    out: Product_co
    norm2: Floats
    gate_up: Product_co
    down: Product_co


@dataclass(frozen=True)
class Sequence:
    """`count` new positions from `position` on in a cache, fp32 [L, 2, H_kv, room, D], contiguous, with room for them."""

    slots: Floats
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
        tables: tuple[Floats, Floats],
        norm: Floats,
        head: object,
        halt: tuple[Floats, Floats] | None,
    ) -> None:
        """Every product is one of these kernels. tables: cos and sin, fp32 [positions, D/2]; norm: fp32 [d], after the last block; halt: weight and
        bias, fp32 [2, d] and [2]."""
        self._step, self._prompt, self._shape, self._head = kernels.step_function, kernels.prompt_function, shape, _own(head)
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

    def step(self, inputs: Floats, sequences: Many[Sequence]) -> Said:
        """inputs: fp32 [rows, d], those of the sequences in turn; their slots are written. As many threads as threads.py says."""
        return self._run(inputs, sequences, sum(sequence.count for sequence in sequences), whole=False)

    def prompt(self, inputs: Floats, sequence: Sequence) -> Said:
        """The same of one sequence, and what is said is of its last input alone: rows is 1. Products add in the order that is fastest for many.

        On matrix units bits depend on what lies before a position, and not on how a prompt is divided (csrc/prompt.h; error: csrc/bricks.h).
        """
        return self._run(inputs, [sequence], 1, whole=True)

    def _run(self, inputs: Floats, sequences: Many[Sequence], said: int, *, whole: bool) -> Said:
        """said: rows that results are wanted of, the last ones."""
        rows = sum(sequence.count for sequence in sequences)
        if inputs.shape != (rows, self._shape.d_model) or inputs.dtype != np.float32:
            raise ValueError(f"fp32 [{rows}, {self._shape.d_model}], not {inputs.dtype} {inputs.shape}")
        hidden = np.array(inputs, order="C")
        logits = np.empty((said, self._head.n), np.float32)
        halts = np.empty((said, 2), np.float32) if self._halt else None
        described = (_Sequence * len(sequences))(*map(self._place, sequences))
        halt_at = None if halts is None else address(halts)
        model, used = ctypes.addressof(self._model), min(threads.count(), MOST_THREADS)
        if whole and self._prompt is not None:
            failed = self._prompt(model, described, address(hidden), address(logits), halt_at, used)
            hidden[rows - said :] = hidden[:said]  # it leaves the last position's in the first row
        else:
            failed = self._step(model, described, len(described), address(hidden), address(logits), halt_at, whole, used)
        if failed:
            raise MemoryError(f"no memory for a step of {rows} rows")
        return logits, halts, hidden[rows - said :]

    def _place(self, sequence: Sequence) -> _Sequence:
        slots = sequence.slots
        expected = (len(self._layers), 2, self._shape.n_kv_heads, slots.shape[3], self._shape.d_head)
        fits = slots.shape == expected and slots.dtype == np.float32 and slots.flags.c_contiguous
        if not fits or not 0 <= sequence.position <= sequence.position + sequence.count <= min(slots.shape[3], self._positions):
            raise ValueError(f"a cache of {expected}, not {tuple(slots.shape)}, for positions {sequence.position} and {sequence.count} more")
        return _Sequence(address(slots), slots.shape[3], sequence.position, sequence.count)


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


def _floats(array: Floats) -> int:
    if array.dtype != np.float32 or not array.flags.c_contiguous:
        raise ValueError(f"contiguous fp32, not {array.dtype} {array.shape}")
    return address(array)
