"""The decoder in torch, where there are no kernels.

Here: one position and one chunk of positions through all blocks. Not here: layouts of weights (products.py, held.py), the same in C
(runtime/kernels/decoder.py), the reference forward pass that both must equal (runtime/student/model.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from interlock.contracts.checkpoint import Arch
from runtime.backends.products import Product
from runtime.kernels.decoder import Layer, Said
from runtime.kernels.decoder import Sequence as Positions
from runtime.kernels.products import Floats


class TorchDecoder:
    """What runtime.kernels.decoder.Decoder does: the same calls, one row after another where rows must not meet in a sum."""

    def __init__(
        self,
        arch: Arch,
        layers: Sequence[Layer[Product]],
        tables: tuple[Floats, Floats],
        norm: Floats,
        head: Product,
        halt: tuple[Floats, Floats] | None,
    ) -> None:
        """As Decoder, with torch's products."""
        self._forward = Forward(arch, [_in_torch(layer) for layer in layers], (torch.from_numpy(tables[0]), torch.from_numpy(tables[1])))
        self._norm, self._head = torch.from_numpy(norm), head
        self._halt = None if halt is None else (torch.from_numpy(halt[0]), torch.from_numpy(halt[1]))

    @torch.inference_mode()
    def step(self, inputs: Floats, sequences: Sequence[Positions]) -> Said:
        """See Decoder.step."""
        rest, rows = iter(torch.from_numpy(inputs)), []
        for sequence in sequences:
            slots = torch.from_numpy(sequence.slots)
            rows += [self._forward.vector(next(rest), slots, sequence.position + number) for number in range(sequence.count)]
        return self._said(torch.stack(rows))

    @torch.inference_mode()
    def prompt(self, inputs: Floats, sequence: Positions) -> Said:
        """See Decoder.prompt."""
        x = self._forward.rows(torch.from_numpy(inputs), torch.from_numpy(sequence.slots), sequence.position)
        return self._said(x[-1:])

    def _said(self, x: Tensor) -> Said:
        """x: [rows, d], the residual stream after the last block."""
        hidden = self._forward.norm(x, self._norm)
        logits = torch.stack([self._head.vector(row) for row in hidden])
        return logits.numpy(), None if self._halt is None else F.linear(hidden, *self._halt).numpy(), hidden.numpy()


@dataclass(frozen=True)
class _Block:
    """As Layer, in torch."""

    norm1: Tensor
    qkv: Product
    bias: Tensor | None
    qk_norm: Tensor | None
    rotates: bool
    out: Product
    norm2: Tensor
    gate_up: Product
    down: Product


def _in_torch(layer: Layer[Product]) -> _Block:
    bias, qk_norm = (None if part is None else torch.from_numpy(part) for part in (layer.bias, layer.qk_norm))
    norm1, norm2 = torch.from_numpy(layer.norm1), torch.from_numpy(layer.norm2)
    return _Block(norm1, layer.qkv, bias, qk_norm, layer.rotates, layer.out, norm2, layer.gate_up, layer.down)


class Forward:
    """Residual stream, norms, rotation and attention are fp32, whatever the weights are."""

    def __init__(self, arch: Arch, layers: Sequence[_Block], tables: tuple[Tensor, Tensor]) -> None:
        self.arch, self.layers, self.tables = arch, layers, tables

    def vector(self, x: Tensor, cache: Tensor, position: int) -> Tensor:
        """One position through all blocks. x: [d] → [d]; `cache`, fp32 [L, 2, H_kv, slots, D], takes the new slot."""
        n, n_kv, d_head = self.arch.n_heads, self.arch.n_kv_heads, self.arch.d_head
        end = position + 1
        cos, sin = self._turns(position, end)
        for layer, slots in zip(self.layers, cache[:, :, :, self._first_seen(position) : end], strict=True):
            turned, value = self._heads(layer, layer.qkv.vector(self.norm(x, layer.norm1)), cos[0], sin[0])
            slots[0, :, -1], slots[1, :, -1] = turned[n:], value
            # The queries of a group are rows against their one key head: nothing is repeated, and one position needs no mask.
            query = turned[:n].view(1, n_kv, -1, d_head)
            mixed = F.scaled_dot_product_attention(query, slots[0][None], slots[1][None])
            x = x + layer.out.vector(mixed.reshape(-1))
            gate, up = layer.gate_up.vector(self.norm(x, layer.norm2)).chunk(2)
            x = x + layer.down.vector(F.silu(gate) * up)
        return x

    def rows(self, x: Tensor, cache: Tensor, start: int) -> Tensor:
        """A chunk of positions through all blocks. x: [T, d] → [T, d]; `cache` takes T new slots from `start` on."""
        n, n_kv, d_head = self.arch.n_heads, self.arch.n_kv_heads, self.arch.d_head
        length = len(x)
        end, first = start + length, self._first_seen(start)
        cos, sin = self._turns(start, end)
        mask = self._mask(start, end)
        for layer, slots in zip(self.layers, cache[:, :, :, first:end], strict=True):
            turned, values = self._heads(layer, layer.qkv.rows(self.norm(x, layer.norm1)), cos, sin)
            slots[0, :, start - first :], slots[1, :, start - first :] = turned[:, n:].transpose(0, 1), values.transpose(0, 1)
            # Key heads as the batch, the queries of a group as its heads: the group shares its keys by stride 0, without a copy.
            query = turned[:, :n].view(length, n_kv, -1, d_head).permute(1, 2, 0, 3)
            key, value = (part[:, None].expand(-1, query.shape[1], -1, -1) for part in slots)
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None)
            x = x + layer.out.rows(mixed.permute(2, 0, 1, 3).reshape(length, -1))
            gate, up = layer.gate_up.rows(self.norm(x, layer.norm2)).chunk(2, dim=-1)
            x = x + layer.down.rows(F.silu(gate) * up)
        return x

    def _heads(self, layer: _Block, fused: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
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
        cos, sin = self.tables[0][start:end], self.tables[1][start:end]
        return torch.cat([cos, cos], -1)[:, None], torch.cat([-sin, sin], -1)[:, None]

    def norm(self, x: Tensor, weight: Tensor) -> Tensor:
        """x: [..., d]; weight: [d]."""
        return F.rms_norm(x, (self.arch.d_model,), weight, self.arch.norm_eps)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """apply_rope in three operations. x: [..., heads, D]; cos, sin: [..., 1, D] as `_turns` returns them."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)
