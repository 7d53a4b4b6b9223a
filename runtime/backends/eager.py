"""Backend `eager`: a student's weights decoded in memory, as fast as this machine allows.

Here: caches, and which positions go through the layers together. Not here: the layers themselves, in C (runtime/kernels/decoder.py) and in torch
(forward.py), how weights are held (held.py), the reference that both must equal (runtime/student/model.py), the token loop (runtime/engine).
With kernels no torch is imported: that alone would take longer than everything else up to the first token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from interlock.contracts.checkpoint import Arch, ModelArch
from runtime.backends.held import Held, Matrix, Weights, layers_of
from runtime.backends.protocol import Step, Vector, check_batch, check_rewind, check_room
from runtime.backends.rotation import rotation_tables
from runtime.kernels import Product
from runtime.kernels.decoder import Decoder, Layer, Said, Shape
from runtime.kernels.decoder import Sequence as Positions
from runtime.kernels.products import Floats

if TYPE_CHECKING:
    from runtime.student.model import Student

# A short chat fits without growing; growth doubles, so that n tokens copy fewer than 2n slots.
FIRST_SLOTS = 256
# Rows per prompt chunk: the products are at full speed from 128 rows on, and what lies between them stays small.
CHUNK = 512


class EagerCache:
    """Keys and values of one sequence, fp32 [L, 2, H_kv, slots, D], grown by doubling up to the capacity. Slots from `position` on are garbage."""

    def __init__(self, arch: Arch) -> None:
        self.arch, self.capacity = arch, arch.max_position
        self.position = 0
        self.slots = self._empty(min(FIRST_SLOTS, self.capacity))

    def _empty(self, slots: int) -> Floats:
        return np.empty((self.arch.n_layers, 2, self.arch.n_kv_heads, slots, self.arch.d_head), np.float32)

    def rewind(self, position: int) -> None:
        """Forget everything from `position` on. Raises ValueError unless 0 ≤ position ≤ self.position."""
        check_rewind(self.position, position)
        self.position = position

    @property
    def size_bytes(self) -> int:
        return self.slots.nbytes

    def copy(self, position: int) -> EagerCache:
        """A sequence of its own that has the first `position` inputs. Raises ValueError unless 0 ≤ position ≤ self.position."""
        check_rewind(self.position, position)
        made = EagerCache(self.arch)
        made.reserve(position)
        made.slots[:, :, :, :position] = self.slots[:, :, :, :position]
        made.position = position
        return made

    def reserve(self, count: int) -> None:
        """Make room for `count` more inputs. Raises UsageError beyond the capacity."""
        check_room(self.capacity, self.position, count)
        needed, size = self.position + count, self.slots.shape[3]
        if needed > size:
            while size < needed:
                size *= 2
            grown = self._empty(min(size, self.capacity))
            grown[:, :, :, : self.position] = self.slots[:, :, :, : self.position]
            self.slots = grown


class Steps(Protocol):
    """What takes positions through all layers: C, or torch."""

    def step(self, inputs: Floats, sequences: Sequence[Positions]) -> Said: ...

    def prompt(self, inputs: Floats, sequence: Positions) -> Said: ...


class EagerBackend:
    """Weights are shared by all caches. Residual stream, norms, rotation and attention are fp32, whatever the weights are."""

    def __init__(self, arch: Arch, heads: ModelArch, held: Held) -> None:
        """held: is asked once for each tensor of `arch.weight_shapes(heads)` that a step needs (not the self-evaluation head's)."""
        self.arch, self.notes = arch, held.notes
        layers = layers_of(arch, held)
        self._embed = held.matrix("embed.weight")
        head = self._embed if arch.tie_embeddings else held.matrix("lm_head.weight")
        self.weight_bytes = held.nbytes
        halt = (held.small("halt_head.weight"), held.small("halt_head.bias")) if heads.use_halt_head else None
        self._steps = _steps(arch, held, layers, held.small("norm_f.weight"), head, halt)

    @property
    def capacity(self) -> int:
        return self.arch.max_position

    def new_cache(self) -> EagerCache:
        return EagerCache(self.arch)

    def prefill(self, ids: Sequence[int], cache: EagerCache) -> Step:
        """Append tokens in chunks. See Backend.prefill."""
        if not len(ids):
            raise ValueError("prefill needs at least one id")
        if len(ids) == 1:
            return self.decode(ids[0], cache)
        cache.reserve(len(ids))
        for start in range(0, len(ids), CHUNK):
            chunk = ids[start : start + CHUNK]
            said = self._steps.prompt(self._inputs(chunk), Positions(cache.slots, cache.position, len(chunk)))
            cache.position += len(chunk)
        return _each(said)[0]

    def decode(self, inp: int | Vector, cache: EagerCache) -> Step:
        """Append one token or one latent vector [d]. See Backend.decode."""
        cache.reserve(1)
        return self._step([inp], [cache], 1)[0]

    def decode_many(self, inputs: Sequence[int | Vector], caches: Sequence[EagerCache]) -> list[Step]:
        """All sequences go through the layers together: the weights are read once. See Backend.decode_many."""
        check_batch(self.capacity, inputs, caches)
        for cache in caches:
            cache.reserve(1)
        return self._step(inputs, caches, 1) if len(inputs) else []

    def score(self, ids: Sequence[int], cache: EagerCache) -> list[Step]:
        """All tokens go through the layers together. See Backend.score."""
        cache.reserve(len(ids))
        return self._step(ids, [cache], len(ids)) if len(ids) else []

    def _inputs(self, inputs: Sequence[int | Vector]) -> Floats:
        """[rows, d]: embeddings of tokens, vectors as they are."""
        rows = _rows(self._embed, [0 if isinstance(inp, np.ndarray) else inp for inp in inputs])
        for row, inp in enumerate(inputs):
            if isinstance(inp, np.ndarray):
                rows[row] = inp
        return rows

    def _step(self, inputs: Sequence[int | Vector], caches: Sequence[EagerCache], count: int) -> list[Step]:
        """`count` inputs to each cache, which has room for them; the steps in the order of the inputs."""
        said = self._steps.step(self._inputs(inputs), [Positions(cache.slots, cache.position, count) for cache in caches])
        for cache in caches:
            cache.position += count
        return _each(said)


def _each(said: Said) -> list[Step]:
    logits, halts, hidden = said
    return [Step(*row) for row in zip(logits, [None] * len(logits) if halts is None else halts, hidden, strict=True)]


def _rows(table: Matrix, index: Sequence[int]) -> Floats:
    if isinstance(table, Product):
        return table.select(np.array(index, np.int64))
    import torch

    rows: Floats = table.select(torch.tensor(index)).numpy()
    return rows


def _steps(arch: Arch, held: Held, layers: list[Layer[Matrix]], norm: Floats, head: Matrix, halt: tuple[Floats, Floats] | None) -> Steps:
    tables = rotation_tables(arch)
    if held.kernels is None:
        from runtime.backends.forward import TorchDecoder

        return TorchDecoder(arch, cast("Any", layers), tables, norm, cast("Any", head), halt)
    shape = Shape(arch.d_model, arch.n_heads, arch.n_kv_heads, arch.d_head, arch.d_ff, arch.sliding_window, arch.norm_eps)
    return Decoder(held.kernels, shape, cast("list[Layer[object]]", layers), tables, norm, head, halt)


def eager_from(student: Student, weights: Weights = "fp32") -> EagerBackend:
    """A fast backend with copies of a student's weights: one that trains on must not change half of it."""
    from runtime.backends.tensors import as_array

    state = student.state_dict()
    return EagerBackend(student.arch, student.heads, Held(lambda name: as_array(state[name].clone()), weights))
