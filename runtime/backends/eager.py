"""Backend `eager`: a student's weights decoded one token at a time in plain torch, as fast as plain torch goes.

Here: fused weights, the key/value cache, one step and one prompt chunk. Not here: layouts of weights (products.py), the reference
forward pass that this must equal (runtime/student/model.py), the token loop (runtime/engine).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from interlock.contracts.checkpoint import Arch, ModelArch
from runtime.backends.products import Dtype, Product, Table, product, table
from runtime.backends.protocol import Step, Vector, check_rewind, check_room, decode_one_by_one, score_one_by_one
from runtime.student.model import Student
from runtime.student.rope import rope_tables

# A tensor by its name, in any float dtype: `weights.__getitem__`, or a reader of one tensor at a time (pipeline.sources.foreign.Foreign.load).
Load = Callable[[str], Tensor]

# A short chat fits without growing; growth doubles, so that n tokens copy fewer than 2n slots.
FIRST_SLOTS = 256
# Rows per prompt chunk: the products are at full speed from 128 rows on, and the scores of one layer stay below 300 MB at position 8192.
CHUNK = 512


class EagerCache:
    """Keys and values of one sequence, fp32 [L, 2, H_kv, slots, D], grown by doubling up to the capacity. Slots from `position` on are garbage."""

    def __init__(self, arch: Arch) -> None:
        self.capacity = arch.max_position
        self.position = 0
        slots = min(FIRST_SLOTS, self.capacity)
        self.slots = torch.empty(arch.n_layers, 2, arch.n_kv_heads, slots, arch.d_head)

    def rewind(self, position: int) -> None:
        """Forget everything from `position` on. Raises ValueError unless 0 ≤ position ≤ self.position."""
        check_rewind(self.position, position)
        self.position = position

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


@dataclass(frozen=True)
class _Layer:
    """One block. qkv: [(H + 2·H_kv)·D, d], bias of it where the architecture has one; qk_norm: of queries and keys, [H + H_kv, D];
    rotates: whether they are; gate_up: [2·d_ff, d]; norms: [d]. All but the products fp32."""

    norm1: Tensor
    qkv: Product
    bias: Tensor | None
    qk_norm: Tensor | None
    rotates: bool
    out: Product
    norm2: Tensor
    gate_up: Product
    down: Product


class EagerBackend:
    """One sequence at a time per call; weights are shared by all caches. Residual stream, norms, rotation and attention are fp32 in both dtypes."""

    def __init__(self, arch: Arch, heads: ModelArch, load: Load, dtype: Dtype = "float32") -> None:
        """`load` is asked once for each tensor of `arch.weight_shapes(heads)` that a step needs (not the self-evaluation head's).

        What it returns is copied into its layout and not kept, so reading one tensor at a time needs the memory of the model once.
        dtype: of the matrix products.
        """
        self.arch = arch
        self._layers = [_layer(load, arch, i, dtype) for i in range(arch.n_layers)]
        self._embed: Table = table(load("embed.weight"), dtype)
        self._head: Product = self._embed if arch.tie_embeddings else product(load("lm_head.weight"), dtype)
        self._norm_f = _small(load, "norm_f.weight")
        self._halt = (_small(load, "halt_head.weight"), _small(load, "halt_head.bias")) if heads.use_halt_head else None
        self._cos, self._sin = rope_tables(arch)

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
        tokens = torch.tensor(ids, dtype=torch.int64)
        for chunk in torch.split(tokens, CHUNK):
            x = self._rows(self._embed.select(chunk), cache)
        return self._step(x[-1])

    @torch.inference_mode()
    def decode(self, inp: int | Vector, cache: EagerCache) -> Step:
        """Append one token or one latent vector [d]. See Backend.decode."""
        cache.reserve(1)
        x = torch.from_numpy(inp) if isinstance(inp, np.ndarray) else self._embed.select(torch.tensor([inp]))[0]
        return self._step(self._vector(x, cache))

    def decode_many(self, inputs: Sequence[int | Vector], caches: Sequence[EagerCache]) -> list[Step]:
        """See Backend.decode_many."""
        return decode_one_by_one(self, inputs, caches)

    def score(self, ids: Sequence[int], cache: EagerCache) -> list[Step]:
        """See Backend.score."""
        return score_one_by_one(self, ids, cache)

    def _step(self, x: Tensor) -> Step:
        """x: [d], the residual stream after the last block."""
        hidden = self._norm(x, self._norm_f)
        halt = None if self._halt is None else F.linear(hidden, *self._halt).numpy()
        return Step(self._head.vector(hidden).numpy(), halt, hidden.numpy())

    def _vector(self, x: Tensor, cache: EagerCache) -> Tensor:
        """One position through all blocks. x: [d] → [d]; `cache` takes the new slot."""
        n, n_kv, d_head = self.arch.n_heads, self.arch.n_kv_heads, self.arch.d_head
        end = cache.position + 1
        cos, sin = self._turns(cache.position, end)
        for layer, slots in zip(self._layers, cache.slots[:, :, :, self._first_seen(cache.position) : end], strict=True):
            turned, value = self._heads(layer, layer.qkv.vector(self._norm(x, layer.norm1)), cos[0], sin[0])
            slots[0, :, -1], slots[1, :, -1] = turned[n:], value
            # The queries of a group are rows against their one key head: nothing is repeated, and one position needs no mask.
            query = turned[:n].view(1, n_kv, -1, d_head)
            mixed = F.scaled_dot_product_attention(query, slots[0][None], slots[1][None])
            x = x + layer.out.vector(mixed.reshape(-1))
            gate, up = layer.gate_up.vector(self._norm(x, layer.norm2)).chunk(2)
            x = x + layer.down.vector(F.silu(gate) * up)
        cache.position = end
        return x

    def _rows(self, x: Tensor, cache: EagerCache) -> Tensor:
        """A chunk of positions through all blocks. x: [T, d] → [T, d]; `cache` takes T new slots."""
        n, n_kv, d_head = self.arch.n_heads, self.arch.n_kv_heads, self.arch.d_head
        length, start = len(x), cache.position
        end, first = start + length, self._first_seen(start)
        cos, sin = self._turns(start, end)
        mask = self._mask(start, end)
        for layer, slots in zip(self._layers, cache.slots[:, :, :, first:end], strict=True):
            turned, values = self._heads(layer, layer.qkv.rows(self._norm(x, layer.norm1)), cos, sin)
            slots[0, :, start - first :], slots[1, :, start - first :] = turned[:, n:].transpose(0, 1), values.transpose(0, 1)
            # Key heads as the batch, the queries of a group as its heads: the group shares its keys by stride 0, without a copy.
            query = turned[:, :n].view(length, n_kv, -1, d_head).permute(1, 2, 0, 3)
            key, value = (part[:, None].expand(-1, query.shape[1], -1, -1) for part in slots)
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None)
            x = x + layer.out.rows(mixed.permute(2, 0, 1, 3).reshape(length, -1))
            gate, up = layer.gate_up.rows(self._norm(x, layer.norm2)).chunk(2, dim=-1)
            x = x + layer.down.rows(F.silu(gate) * up)
        cache.position = end
        return x

    def _heads(self, layer: _Layer, fused: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """fused: [..., (H + 2·H_kv)·D], the layer's product → queries and keys as attention takes them [..., H + H_kv, D], values [..., H_kv, D]."""
        both = self.arch.n_heads + self.arch.n_kv_heads
        heads = (fused if layer.bias is None else fused + layer.bias).view(*fused.shape[:-1], -1, self.arch.d_head)
        turned = heads[..., :both, :]
        if layer.qk_norm is not None:
            turned = F.rms_norm(turned, (self.arch.d_head,), None, self.arch.norm_eps) * layer.qk_norm
        return (_rotate(turned, cos, sin) if layer.rotates else turned), heads[..., both:, :]

    def _first_seen(self, position: int) -> int:
        """The first slot that a position attends to."""
        return 0 if self.arch.sliding_window is None else max(0, position + 1 - self.arch.sliding_window)

    def _mask(self, start: int, end: int) -> Tensor | None:
        """Which of the slots from the first seen on the positions start … end see, bool [T, S]; None where plain causality says it."""
        first, window = self._first_seen(start), self.arch.sliding_window
        if start == 0 and (window is None or end <= window):
            return None
        distance = torch.arange(start, end)[:, None] - torch.arange(first, end)
        return distance >= 0 if window is None else (distance >= 0) & (distance < window)

    def _turns(self, start: int, end: int) -> tuple[Tensor, Tensor]:
        """cos and sin of positions start … end, each [T, 1, D]: over both halves, with the minus of the rotation in sin."""
        cos, sin = self._cos[start:end], self._sin[start:end]
        return torch.cat([cos, cos], -1)[:, None], torch.cat([-sin, sin], -1)[:, None]

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, (self.arch.d_model,), weight, self.arch.norm_eps)


def eager_from(student: Student, dtype: Dtype = "float32") -> EagerBackend:
    """A fast backend with copies of a student's weights."""
    return EagerBackend(student.arch, student.heads, student.state_dict().__getitem__, dtype)


def _layer(load: Load, arch: Arch, number: int, dtype: Dtype) -> _Layer:
    block = f"blocks.{number}."

    def fused(*names: str) -> Product:
        return product(torch.cat([load(f"{block}{name}.weight") for name in names]), dtype)

    bias = torch.cat([_small(load, f"{block}attn.{name}.bias") for name in ("wq", "wk", "wv")]) if arch.attention_bias else None
    norms = ((_small(load, f"{block}attn.{name}.weight"), count) for name, count in (("q_norm", arch.n_heads), ("k_norm", arch.n_kv_heads)))
    return _Layer(
        norm1=_small(load, f"{block}norm1.weight"),
        qkv=fused("attn.wq", "attn.wk", "attn.wv"),
        bias=bias,
        qk_norm=torch.cat([weight.expand(count, -1) for weight, count in norms]) if arch.qk_norm else None,
        rotates=number not in arch.no_rope_layers,
        out=fused("attn.wo"),
        norm2=_small(load, f"{block}norm2.weight"),
        gate_up=fused("mlp.w1", "mlp.w3"),
        down=fused("mlp.w2"),
    )


def _small(load: Load, name: str) -> Tensor:
    """A copy in fp32: a student that trains on must not change half of the backend."""
    return load(name).to(torch.float32, copy=True)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """apply_rope in three operations. x: [..., heads, D]; cos, sin: [..., 1, D] as `_turns` returns them."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)
