"""The student: a decoder of the Llama family as a torch module, with the guide's parameter names.

Here: the forward pass with and without a cache, in forms that trace and convert. Not here: loading (checkpoint.py), fast decoding
(runtime/backends/eager.py), training. This module is the reference that every other executor is compared with, so it is written for
clarity and for the converter, not for speed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interlock.contracts.checkpoint import Arch, ModelArch
from runtime.student.rope import apply_rope, rope_tables

# Finite: -inf becomes NaN where fp16 rows are fully hidden, and Core ML's fp16 softmax is only specified for finite input.
# exp(-1e4 + score) is exactly 0 in fp32 and fp16 for any score below 9.8e3.
HIDDEN_SCORE = -1e4

# Puts rows [1, H_kv, T, D] of a layer into a cache [L, H_kv, C, D], in place: (cache, layer, rows).
Write = Callable[[Tensor, int, Tensor], None]
Writer = Callable[[Tensor, Tensor, Tensor], Write]


def slice_writer(x: Tensor, position_ids: Tensor, cache: Tensor) -> Write:
    """For x [1, T, d] at consecutive positions [T]. The ends of the slice are tensors, never Python ints: a trace would keep those."""
    start, end = position_ids[0], position_ids[0] + x.shape[1]

    def write(cache: Tensor, layer: int, rows: Tensor) -> None:
        cache[layer : layer + 1, :, start:end, :] = rows.to(cache.dtype)

    return write


class StudentOutput(NamedTuple):
    """One forward pass. The heads read the last position.

    logits: [B, T, V]; halt_logits: [B, 2] `[continue, halt]` or None; hidden: [B, T, d] after the final norm; quality: [B] in 0..1 or None.
    """

    logits: Tensor
    halt_logits: Tensor | None
    hidden: Tensor
    quality: Tensor | None


class Linear(nn.Linear):
    """A linear map whose weights are not initialised: torch's own way costs 5 s of imports on the meta device, and is replaced anyway."""

    def reset_parameters(self) -> None:
        pass


class Embedding(nn.Embedding):
    """A table that is not initialised, for the same reason."""

    def reset_parameters(self) -> None:
        pass


class RMSNorm(nn.Module):
    """weight · x / rms(x), as the five plain operations that the converter's precision rule recognises (pow, mean, add, rsqrt, mul)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., width]. Returns x's shape and dtype; the mean square is taken in fp32 (x² is inf in fp16 from |x| ≥ 256)."""
        wide = x if x.dtype == torch.float32 else x.float()
        normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * (normed if x.dtype == torch.float32 else normed.to(x.dtype))


class Attention(nn.Module):
    """Grouped-query attention: n_heads queries share n_kv_heads keys and values.

    Queries and keys are normed by head where `qk_norm` says so (Qwen3), before they are rotated; not at all in `no_rope_layers` (SmolLM3).
    """

    def __init__(self, arch: Arch, layer: int) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads, self.d_head = arch.n_heads, arch.n_kv_heads, arch.d_head
        self.rotates = layer not in arch.no_rope_layers
        self.wq = Linear(arch.d_model, arch.n_heads * arch.d_head, bias=arch.attention_bias)
        self.wk = Linear(arch.d_model, arch.n_kv_heads * arch.d_head, bias=arch.attention_bias)
        self.wv = Linear(arch.d_model, arch.n_kv_heads * arch.d_head, bias=arch.attention_bias)
        self.wo = Linear(arch.n_heads * arch.d_head, arch.d_model, bias=False)
        self.q_norm = RMSNorm(arch.d_head, arch.norm_eps) if arch.qk_norm else None
        self.k_norm = RMSNorm(arch.d_head, arch.norm_eps) if arch.qk_norm else None

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x: [B, T, d] → query [B, H, T, D], key and plain value [B, H_kv, T, D]; query and key normed and rotated as the layer does it."""
        batch = x.shape[0]
        query = _normed(self.wq(x).view(batch, -1, self.n_heads, self.d_head), self.q_norm).transpose(1, 2)
        key = _normed(self.wk(x).view(batch, -1, self.n_kv_heads, self.d_head), self.k_norm).transpose(1, 2)
        value = self.wv(x).view(batch, -1, self.n_kv_heads, self.d_head).transpose(1, 2)
        return (apply_rope(query, cos, sin), apply_rope(key, cos, sin), value) if self.rotates else (query, key, value)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """query: [B, H, T, D]; key, value: [B, H_kv, S, D]; mask: [1, 1, T, S] added to the scores → [B, T, d]."""
        batch = query.shape[0]
        mixed = F.scaled_dot_product_attention(query, self._share(key), self._share(value), attn_mask=mask)
        out: Tensor = self.wo(mixed.transpose(1, 2).reshape(batch, -1, self.n_heads * self.d_head))
        return out

    def _share(self, x: Tensor) -> Tensor:
        """[B, H_kv, S, D] → [B, H, S, D]: each head repeated for its group. A broadcast: the converter has no repeat_interleave fusion."""
        group = self.n_heads // self.n_kv_heads
        if group == 1:
            return x
        return x.unsqueeze(2).expand(-1, -1, group, -1, -1).reshape(x.shape[0], self.n_heads, -1, self.d_head)


class MLP(nn.Module):
    """SwiGLU: w2(silu(w1 x) · w3 x)."""

    def __init__(self, arch: Arch) -> None:
        super().__init__()
        self.w1 = Linear(arch.d_model, arch.d_ff, bias=False)
        self.w3 = Linear(arch.d_model, arch.d_ff, bias=False)
        self.w2 = Linear(arch.d_ff, arch.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.w2(F.silu(self.w1(x)) * self.w3(x))
        return out


class Block(nn.Module):
    """Norm, attention, residual; norm, MLP, residual."""

    def __init__(self, arch: Arch, layer: int) -> None:
        super().__init__()
        self.norm1 = RMSNorm(arch.d_model, arch.norm_eps)
        self.attn = Attention(arch, layer)
        self.norm2 = RMSNorm(arch.d_model, arch.norm_eps)
        self.mlp = MLP(arch)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, earlier_key: Tensor | None, earlier_value: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """T more columns after those of the earlier keys and values, [B, H_kv, S - T, D] each.

        x: [B, T, d]; cos, sin: [T, D/2]; mask: [1 or B, 1, T, S] added to the scores → [B, T, d], and the keys and values of all columns,
        [B, H_kv, S, D] each. Nothing is written in place: gradients flow through all of it.
        """
        query, key, value = self.attn.project(self.norm1(x), cos, sin)
        if earlier_key is not None and earlier_value is not None:
            key, value = torch.cat([earlier_key, key], 2), torch.cat([earlier_value, value], 2)
        x = x + self.attn.attend(query, key, value, mask)
        return x + self.mlp(self.norm2(x)), key, value


class Student(nn.Module):
    """The whole model. Its parameters are exactly `arch.weight_shapes(heads)`; the rope tables are buffers that no checkpoint stores.

    Weights are whatever memory held: checkpoint.py fills them from a file or a seed.
    """

    rope_cos: Tensor
    rope_sin: Tensor

    def __init__(self, arch: Arch, heads: ModelArch) -> None:
        super().__init__()
        self.arch, self.heads = arch, heads
        self.embed = Embedding(arch.vocab_size, arch.d_model)
        self.blocks = nn.ModuleList(Block(arch, layer) for layer in range(arch.n_layers))
        self.norm_f = RMSNorm(arch.d_model, arch.norm_eps)
        if not arch.tie_embeddings:
            self.lm_head = Linear(arch.d_model, arch.vocab_size, bias=False)
        if heads.use_halt_head:
            self.halt_head = Linear(arch.d_model, 2)
        if heads.use_self_evaluation:
            middle = arch.d_model // 2
            self.eval_head = nn.Sequential(Linear(arch.d_model, middle), nn.ReLU(), Linear(middle, 1))
        cos, sin = rope_tables(arch)
        self.register_buffer("rope_cos", cos, persistent=False)
        self.register_buffer("rope_sin", sin, persistent=False)

    def forward(self, input_ids: Tensor) -> StudentOutput:
        """input_ids: int [B, T]. See StudentOutput."""
        hidden = self.hidden(input_ids)
        last = hidden[:, -1]
        halt = self.halt(last) if self.heads.use_halt_head else None
        quality = self.quality(last) if self.heads.use_self_evaluation else None
        return StudentOutput(self.logits(hidden), halt, hidden, quality)

    def hidden(self, x: Tensor) -> Tensor:
        """x: int ids [B, T], or float embeddings [B, T, d] (latent slots) → [B, T, d] after the final norm. Causal, no cache, T ≤ max_position."""
        x = self._embedded(x)
        length = x.shape[1]
        cos, sin = self.rope_cos[:length].to(x.dtype), self.rope_sin[:length].to(x.dtype)
        positions = torch.arange(length, device=x.device)
        mask = _causal_mask(positions, positions, x.dtype, self.arch.sliding_window)
        for block in self.blocks:
            assert isinstance(block, Block)
            query, key, value = block.attn.project(block.norm1(x), cos, sin)
            x = x + block.attn.attend(query, key, value, mask)
            x = x + block.mlp(block.norm2(x))
        out: Tensor = self.norm_f(x)
        return out

    def extend(self, x: Tensor, position_ids: Tensor, k_cache: Tensor, v_cache: Tensor, *, writer: Writer = slice_writer) -> Tensor:
        """Continue one sequence: write keys and values in place, attend to every slot up to each position.

        x: int ids [1, T] or float embeddings [1, T, d]; position_ids: int32 [T], consecutive; k_cache, v_cache: [L, H_kv, C, D] of any float
        dtype, written at slots position_ids[0] … position_ids[0] + T, which must be ≤ C. Returns [1, T, d] after the final norm.
        Slots beyond a position may hold anything finite. Traceable with T and C dynamic; `torch.export` needs another `writer` (pipeline/export/).
        """
        x = self._embedded(x)
        cos = torch.index_select(self.rope_cos, 0, position_ids).to(x.dtype)
        sin = torch.index_select(self.rope_sin, 0, position_ids).to(x.dtype)
        slots = torch.arange(k_cache.shape[2], device=x.device)
        mask = _causal_mask(slots, position_ids, x.dtype, self.arch.sliding_window)
        write = writer(x, position_ids, k_cache)
        for i, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            query, key, value = block.attn.project(block.norm1(x), cos, sin)
            write(k_cache, i, key)
            write(v_cache, i, value)
            x = x + block.attn.attend(query, k_cache[i : i + 1].to(x.dtype), v_cache[i : i + 1].to(x.dtype), mask)
            x = x + block.mlp(block.norm2(x))
        out: Tensor = self.norm_f(x)
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden: [..., d] after the final norm → [..., V] in the same dtype."""
        return F.linear(hidden, self.embed.weight if self.arch.tie_embeddings else self.lm_head.weight)

    def halt(self, hidden_last: Tensor) -> Tensor:
        """hidden_last: [B, d], the last real position → [B, 2] `[continue, halt]`. Raises AttributeError without a halt head."""
        out: Tensor = self.halt_head(hidden_last)
        return out

    def quality(self, hidden_last: Tensor) -> Tensor:
        """hidden_last: [B, d] → [B], the model's estimate of its answer's quality, 0..1. Raises AttributeError without the head."""
        return torch.sigmoid(self.eval_head(hidden_last)).squeeze(-1)

    def _embedded(self, x: Tensor) -> Tensor:
        """int ids [B, T] → [B, T, d]; embeddings pass."""
        out: Tensor = x if x.is_floating_point() else self.embed(x)
        return out


def _normed(x: Tensor, norm: RMSNorm | None) -> Tensor:
    """x: [..., D]."""
    out: Tensor = x if norm is None else norm(x)
    return out


def _causal_mask(slots: Tensor, positions: Tensor, dtype: torch.dtype, window: int | None) -> Tensor:
    """slots: int [S]; positions: int [T] → [1, 1, T, S], HIDDEN_SCORE where the slot is later than the position or out of its window, else 0.

    A window of W positions is the position itself and the W - 1 before it (Mistral 7B, arXiv:2310.06825 §2).
    A comparison and not a stored triangle: a table of 4096² is 33 MB of constants in the package, and the compressors would quantise it.
    """
    return (_is_hidden(slots, positions, window).to(dtype) * HIDDEN_SCORE)[None, None]


def _is_hidden(slots: Tensor, positions: Tensor, window: int | None) -> Tensor:
    """bool [T, S]."""
    if window is None:
        return slots[None, :] > positions[:, None]
    return torch.logical_or(slots[None, :] > positions[:, None], slots[None, :] <= positions[:, None] - window)
