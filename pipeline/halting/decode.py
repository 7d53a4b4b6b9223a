"""Greedy answers of a frozen student, many prompts at a time, with the hidden state after each token.

Here: the batched forward pass and the loop. Not here: one conversation at a time (runtime/backends/eager.py, which this follows operation by
operation), what is kept of an answer (answers.py).
What all prompts begin with is computed once. The rest is left-padded to one length, so that all rows of a step stand in one column; rows that have
ended leave the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from runtime.backends.products import Dtype, Product, product
from runtime.student.model import Block, Student
from runtime.student.rope import apply_rope

# Rows that have ended leave when they are so many of a batch: copying the cache costs about as much as one step.
LEAVING = 1 / 8


@dataclass(frozen=True)
class Moment:
    """What one row says after some of its tokens. `row` is its place in the prompts; token: the greedy choice; hidden: [d] fp32 after the final norm;
    logits: [V] fp32. The tensors are views of the step's: good until the next."""

    row: int
    token: int
    hidden: Tensor
    logits: Tensor

    def signals(self, ends: Sequence[int]) -> tuple[float, float, float]:
        """Log of the probability of all end tokens, entropy in nats, greatest probability."""
        log = self.logits.log_softmax(-1)
        return float(log[list(ends)].logsumexp(-1)), float(-(log.exp() * log).sum()), float(log.max().exp())


@dataclass(frozen=True)
class _Layer:
    norm1: Tensor
    qkv: Product
    out: Product
    norm2: Tensor
    gate_up: Product
    down: Product


class Batched:
    """A student's weights for batches. Residual stream, norms, rotation, attention and the head are fp32; dtype: of the other matrix products.

    The head stays in fp32 because logits that are rounded to bf16 tie.
    """

    def __init__(self, student: Student, dtype: Dtype) -> None:
        self.student = student
        self._layers = [_layer(block, dtype) for block in student.blocks if isinstance(block, Block)]

    @torch.inference_mode()
    def answers(self, prompts: Sequence[Sequence[int]], eos_ids: Sequence[int], limit: int) -> Iterator[list[Moment]]:
        """One list per step: the moments of rows that have not ended, after 0, 1, … `limit` tokens. An end token is a row's last."""
        arch = self.student.arch
        shared = _shared([prompt[:-1] for prompt in prompts])
        width = max(map(len, prompts))
        pads = torch.tensor([width - len(prompt) for prompt in prompts])
        ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt[shared:]) for prompt in prompts])
        cache = torch.zeros(arch.n_layers, 2, len(prompts), arch.n_kv_heads, width + limit, arch.d_head)
        if shared:
            self._forward(torch.tensor([prompts[0][:shared]]), pads.new_zeros(1), 0, 0, first := cache[:, :, :1].clone())
            cache[:, :, :, :, :shared] = first[:, :, :, :, :shared]
        rows, ends, at = torch.arange(len(prompts)), torch.tensor(list(eos_ids)), shared
        for _ in range(limit + 1):
            hidden = self._forward(ids, pads, shared, at, cache)
            at += ids.shape[1]
            logits = self.student.logits(hidden)
            tokens = logits.argmax(-1)
            yield [Moment(row, int(tokens[i]), hidden[i], logits[i]) for i, row in enumerate(rows.tolist()) if row >= 0]
            rows = torch.where(torch.isin(tokens, ends), -1, rows)
            alive = (rows >= 0).nonzero()[:, 0]
            if not len(alive):
                return
            if len(alive) <= (1 - LEAVING) * len(rows):
                rows, pads, tokens, cache = rows[alive], pads[alive], tokens[alive], cache[:, :, alive]
            ids = tokens[:, None]

    def _forward(self, ids: Tensor, pads: Tensor, shared: int, at: int, cache: Tensor) -> Tensor:
        """Tokens [B, T] at columns `at` … `at` + T through all blocks; row b has pads[b] columns of padding after the first `shared`, which all have.

        cache: [L, 2, B, H_kv, C, D], written. Returns the last column's [B, d] after the final norm.
        """
        arch, student = self.student.arch, self.student
        batch, length = ids.shape
        columns, slots = torch.arange(at, at + length), torch.arange(at + length)
        positions = (columns[None] - pads[:, None]).clamp(min=0)
        cos, sin = student.rope_cos[positions][:, None], student.rope_sin[positions][:, None]
        padding = (slots[None] >= shared) & (slots[None] < shared + pads[:, None])
        # A column of padding sees what the row has before it; nobody reads what comes of it.
        seen = (slots[None, None] <= columns[None, :, None]) & ~padding[:, None] | (slots[None, None] == columns[None, :, None])
        group = arch.n_heads // arch.n_kv_heads
        mask = seen[:, None, None].expand(-1, 1, group, -1, -1).reshape(batch, 1, group * length, -1)
        x = student.embed(ids)
        for layer, kept in zip(self._layers, cache, strict=True):
            heads = layer.qkv.rows(self._norm(x, layer.norm1).flatten(0, 1)).view(batch, length, -1, arch.d_head).transpose(1, 2)
            query, key, value = torch.split(heads, [arch.n_heads, arch.n_kv_heads, arch.n_kv_heads], dim=1)
            kept[0, :, :, at : at + length], kept[1, :, :, at : at + length] = apply_rope(key, cos, sin), value
            # The queries of a group are rows against their one key head: nothing is repeated.
            query = apply_rope(query, cos, sin).reshape(batch, arch.n_kv_heads, group * length, arch.d_head)
            mixed = F.scaled_dot_product_attention(query, kept[0, :, :, : at + length], kept[1, :, :, : at + length], attn_mask=mask)
            mixed = mixed.view(batch, arch.n_heads, length, arch.d_head).transpose(1, 2).reshape(batch * length, -1)
            x = x + layer.out.rows(mixed).view_as(x)
            gate, up = layer.gate_up.rows(self._norm(x, layer.norm2).flatten(0, 1)).chunk(2, dim=-1)
            x = x + layer.down.rows(F.silu(gate) * up).view_as(x)
        last: Tensor = student.norm_f(x[:, -1])
        return last

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, (self.student.arch.d_model,), weight, self.student.arch.norm_eps)


def _shared(prompts: Sequence[Sequence[int]]) -> int:
    """How many ids all prompts begin with."""
    return next((i for i, ids in enumerate(zip(*prompts, strict=False)) if len(set(ids)) > 1), min(map(len, prompts)))


def _layer(block: Block, dtype: Dtype) -> _Layer:
    attn, mlp = block.attn, block.mlp
    return _Layer(
        norm1=block.norm1.weight,
        qkv=product(torch.cat([attn.wq.weight, attn.wk.weight, attn.wv.weight]), dtype),
        out=product(attn.wo.weight, dtype),
        norm2=block.norm2.weight,
        gate_up=product(torch.cat([mlp.w1.weight, mlp.w3.weight]), dtype),
        down=product(mlp.w2.weight, dtype),
    )
