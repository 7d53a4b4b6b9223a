"""Backend `eager`: a student's weights decoded in memory, as fast as this machine allows.

Here: caches, and which positions go through the layers together. Not here: the layers themselves, in C (runtime/kernels/decoder.py) and in torch
(forward.py), how weights are held (held.py), the reference that both must equal (runtime/student/model.py), the token loop (runtime/engine).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from interlock.contracts.checkpoint import Arch, ModelArch
from runtime.backends.forward import Forward
from runtime.backends.held import Held, Weights, layers_of
from runtime.backends.protocol import Step, Vector, check_batch, check_rewind, check_room, decode_one_by_one, score_one_by_one
from runtime.kernels.decoder import Decoder, Shape
from runtime.kernels.decoder import Sequence as Positions
from runtime.student.model import Student

# A short chat fits without growing; growth doubles, so that n tokens copy fewer than 2n slots.
FIRST_SLOTS = 256
# Rows per prompt chunk: the products are at full speed from 128 rows on, and the scores of one layer stay below 300 MB at position 8192.
CHUNK = 512


class EagerCache:
    """Keys and values of one sequence, fp32 [L, 2, H_kv, slots, D], grown by doubling up to the capacity. Slots from `position` on are garbage."""

    def __init__(self, arch: Arch) -> None:
        self.arch, self.capacity = arch, arch.max_position
        self.position = 0
        slots = min(FIRST_SLOTS, self.capacity)
        self.slots = torch.empty(arch.n_layers, 2, arch.n_kv_heads, slots, arch.d_head)

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
            grown = self.slots.new_empty(*self.slots.shape[:3], min(size, self.capacity), self.slots.shape[4])
            grown[:, :, :, : self.position] = self.slots[:, :, :, : self.position]
            self.slots = grown


class EagerBackend:
    """Weights are shared by all caches. Residual stream, norms, rotation and attention are fp32, whatever the weights are."""

    def __init__(self, arch: Arch, heads: ModelArch, held: Held) -> None:
        """held: is asked once for each tensor of `arch.weight_shapes(heads)` that a step needs (not the self-evaluation head's)."""
        self.arch, self.notes = arch, held.notes
        layers = layers_of(arch, held)
        self._forward = Forward(arch, layers)
        self._embed = held.table("embed.weight")
        self._head = self._embed if arch.tie_embeddings else held.product("lm_head.weight")
        self._norm_f = held.small("norm_f.weight")
        self.weight_bytes = held.nbytes
        self._halt = (held.small("halt_head.weight"), held.small("halt_head.bias")) if heads.use_halt_head else None
        shape = Shape(arch.d_model, arch.n_heads, arch.n_kv_heads, arch.d_head, arch.d_ff, arch.sliding_window, arch.norm_eps)
        tables = self._forward.tables
        self._decoder = Decoder(held.kernels, shape, layers, tables, self._norm_f, self._head, self._halt) if held.kernels else None

    @property
    def capacity(self) -> int:
        return self.arch.max_position

    def new_cache(self) -> EagerCache:
        return EagerCache(self.arch)

    @torch.inference_mode()
    def prefill(self, ids: Sequence[int], cache: EagerCache) -> Step:
        """Append tokens in chunks. See Backend.prefill."""
        if not len(ids):
            raise ValueError("prefill needs at least one id")
        if len(ids) == 1:
            return self.decode(ids[0], cache)
        cache.reserve(len(ids))
        for chunk in torch.split(torch.tensor(ids, dtype=torch.int64), CHUNK):
            x = self._forward.rows(self._embed.select(chunk), cache.slots, cache.position)
            cache.position += len(chunk)
        return self._step(x[-1])

    @torch.inference_mode()
    def decode(self, inp: int | Vector, cache: EagerCache) -> Step:
        """Append one token or one latent vector [d]. See Backend.decode."""
        cache.reserve(1)
        if self._decoder is not None:
            return self._steps(self._decoder, self._inputs([inp]), [cache], 1)[0]
        x = self._forward.vector(self._inputs([inp])[0], cache.slots, cache.position)
        cache.position += 1
        return self._step(x)

    @torch.inference_mode()
    def decode_many(self, inputs: Sequence[int | Vector], caches: Sequence[EagerCache]) -> list[Step]:
        """All sequences go through the layers together: the weights are read once. See Backend.decode_many."""
        if self._decoder is None or not inputs:
            return decode_one_by_one(self, inputs, caches)
        check_batch(self.capacity, inputs, caches)
        for cache in caches:
            cache.reserve(1)
        return self._steps(self._decoder, self._inputs(inputs), caches, 1)

    @torch.inference_mode()
    def score(self, ids: Sequence[int], cache: EagerCache) -> list[Step]:
        """All tokens go through the layers together. See Backend.score."""
        if self._decoder is None or not len(ids):
            return score_one_by_one(self, ids, cache)
        cache.reserve(len(ids))
        return self._steps(self._decoder, self._inputs(ids), [cache], len(ids))

    def _inputs(self, inputs: Sequence[int | Vector]) -> Tensor:
        """[rows, d]: embeddings of tokens, vectors as they are."""
        tokens = self._embed.select(torch.tensor([0 if isinstance(inp, np.ndarray) else inp for inp in inputs]))
        for row, inp in enumerate(inputs):
            if isinstance(inp, np.ndarray):
                tokens[row] = torch.from_numpy(inp)
        return tokens

    @staticmethod
    def _steps(decoder: Decoder, inputs: Tensor, caches: Sequence[EagerCache], count: int) -> list[Step]:
        """`count` inputs to each cache, which has room for them; the steps in the order of the inputs."""
        logits, halts, hidden = decoder.step(inputs, [Positions(cache.slots, cache.position, count) for cache in caches])
        for cache in caches:
            cache.position += count
        wide = [None] * len(inputs) if halts is None else list(halts.numpy())
        return [Step(*row) for row in zip(logits.numpy(), wide, hidden.numpy(), strict=True)]

    def _step(self, x: Tensor) -> Step:
        """x: [d], the residual stream after the last block."""
        hidden = self._forward.norm(x, self._norm_f)
        halt = None if self._halt is None else F.linear(hidden, *self._halt).numpy()
        return Step(self._head.vector(hidden).numpy(), halt, hidden.numpy())


def eager_from(student: Student, weights: Weights = "fp32") -> EagerBackend:
    """A fast backend with copies of a student's weights: one that trains on must not change half of it."""
    state = student.state_dict()
    return EagerBackend(student.arch, student.heads, Held(lambda name: state[name].clone(), weights))
