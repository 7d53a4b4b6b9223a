"""The decoder that the probe converts: two layers of grouped-query attention with RoPE, RMSNorm and SwiGLU, a halt head, and its cache.

Here: torch modules in every form that a conversion takes. Not here: the student of real packages (runtime/student): the probe must run where nothing
but torch, coremltools and numpy is installed, and must not change when the student does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

VOCABULARY, LAYERS, HEADS, KV_HEADS, WIDTH, SLOTS = 96, 2, 4, 2, 16, 32
MODEL, HIDDEN = HEADS * WIDTH, 128
CACHE_SHAPE = (LAYERS, KV_HEADS, SLOTS, WIDTH)


class Norm(nn.Module):
    """RMSNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(1 + torch.randn(MODEL) / 8)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight


class Layer(nn.Module):
    """Pre-norm attention and a gated feed-forward part."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Norm(), Norm()
        self.q, self.o = nn.Linear(MODEL, MODEL, bias=False), nn.Linear(MODEL, MODEL, bias=False)
        self.k, self.v = (nn.Linear(MODEL, KV_HEADS * WIDTH, bias=False) for _ in range(2))
        self.gate, self.up = (nn.Linear(MODEL, HIDDEN, bias=False) for _ in range(2))
        self.down = nn.Linear(HIDDEN, MODEL, bias=False)

    def projected(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x [1, T, MODEL] → q [1, HEADS, T, WIDTH], k and v [1, KV_HEADS, T, WIDTH], rotated."""
        x = self.first(x)
        q = self.q(x).view(1, -1, HEADS, WIDTH).transpose(1, 2)
        k = self.k(x).view(1, -1, KV_HEADS, WIDTH).transpose(1, 2)
        v = self.v(x).view(1, -1, KV_HEADS, WIDTH).transpose(1, 2)
        return rotated(q, cos, sin), rotated(k, cos, sin), v

    def forward(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        """x [1, T, MODEL]; k, v [1, KV_HEADS, S, WIDTH]; bias [T, S], added to the scores."""
        k, v = (part.repeat_interleave(HEADS // KV_HEADS, 1) for part in (k, v))
        seen = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        x = x + self.o(seen.transpose(1, 2).reshape(1, -1, MODEL))
        y = self.second(x)
        grown: Tensor = x + self.down(nn.functional.silu(self.gate(y)) * self.up(y))
        return grown


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE in the half-split convention; cos and sin [T, WIDTH / 2]."""
    low, high = x.chunk(2, -1)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], -1)


class Decoder(nn.Module):
    """Weights from a fixed seed, and what every form of the forward pass shares."""

    cos: Tensor
    sin: Tensor

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.norm = nn.Embedding(VOCABULARY, MODEL), Norm()
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.head, self.halt = nn.Linear(MODEL, VOCABULARY, bias=False), nn.Linear(MODEL, 2)
        angles = torch.arange(SLOTS)[:, None] * 10000.0 ** -(torch.arange(WIDTH // 2) / (WIDTH // 2))
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        self.eval().requires_grad_(False)

    def read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """logits [1, T, VOCABULARY] and halt_logits [1, 2] of the last position."""
        x = self.norm(x)
        return self.head(x), self.halt(x[:, -1])

    def over(self, x: Tensor, allowed: Tensor | None = None) -> tuple[Tensor, ...]:
        """A whole text: x [1, T, MODEL], allowed [1, T] with 0 where padded → logits, halt_logits, and k, v of each layer."""
        tokens = x.shape[1]
        places = torch.arange(tokens)
        bias = (places[None, :] > places[:, None]).float() * -1e4
        if allowed is not None:
            bias = bias + (1.0 - allowed.float()) * -1e4
        kept = []
        for layer in self.layers:
            q, k, v = layer.projected(x, self.cos[:tokens], self.sin[:tokens])  # type: ignore[operator]  # a Layer
            x = layer(x, q, k, v, bias)
            kept += [k, v]
        return (*self.read(x), *kept)


class Prefill(Decoder):
    """input_ids [1, T] → everything that `over` gives."""

    def forward(self, input_ids: Tensor) -> tuple[Tensor, ...]:
        return self.over(self.embed(input_ids))


class Masked(Decoder):
    """input_ids [1, T], attention_mask [1, T] → logits, halt_logits."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        return self.over(self.embed(input_ids), attention_mask)[:2]


class Embedded(Decoder):
    """inputs_embeds [1, T, MODEL] → logits, halt_logits: what a step without a token needs."""

    def forward(self, inputs_embeds: Tensor) -> tuple[Tensor, ...]:
        return self.over(inputs_embeds)[:2]


class Decode(Decoder):
    """One step with the cache as inputs and outputs.

    input_ids [1, 1], position [1], k_cache and v_cache [LAYERS, KV_HEADS, SLOTS, WIDTH] → logits, halt_logits, k_new and v_new
    [LAYERS, KV_HEADS, 1, WIDTH].
    """

    def forward(self, input_ids: Tensor, position: Tensor, k_cache: Tensor, v_cache: Tensor) -> tuple[Tensor, ...]:
        x, places = self.embed(input_ids), torch.arange(SLOTS)
        cos, sin = self.cos[position], self.sin[position]
        here = (places == position).float()[None, :, None]
        bias = (places > position).float()[None, :] * -1e4
        k_new, v_new = [], []
        for number, layer in enumerate(self.layers):
            q, k, v = layer.projected(x, cos, sin)  # type: ignore[operator]  # a Layer
            full = [cache[number] * (1 - here) + new[0] * here for cache, new in ((k_cache, k), (v_cache, v))]
            x = layer(x, q, full[0][None], full[1][None], bias)
            k_new.append(k[0])
            v_new.append(v[0])
        return (*self.read(x), torch.stack(k_new), torch.stack(v_new))


class Stateful(Decoder):
    """One step that keeps its cache as state: input_ids [1, 1], position [1] → logits, halt_logits."""

    k_cache: Tensor
    v_cache: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("k_cache", "v_cache"):
            self.register_buffer(name, torch.zeros(CACHE_SHAPE))

    def forward(self, input_ids: Tensor, position: Tensor) -> tuple[Tensor, ...]:
        x, places = self.embed(input_ids), torch.arange(SLOTS)
        cos, sin = self.cos[position], self.sin[position]
        here = (places == position).float()[None, :, None]
        bias = (places > position).float()[None, :] * -1e4
        for number, layer in enumerate(self.layers):
            q, k, v = layer.projected(x, cos, sin)  # type: ignore[operator]  # a Layer
            self.k_cache[number] = self.k_cache[number] * (1 - here) + k[0] * here
            self.v_cache[number] = self.v_cache[number] * (1 - here) + v[0] * here
            x = layer(x, q, self.k_cache[number][None], self.v_cache[number][None], bias)
        return self.read(x)


def ids(*shape: int) -> Any:
    """Tokens from a fixed seed, int32."""
    return torch.randint(0, VOCABULARY, shape, generator=torch.Generator().manual_seed(1), dtype=torch.int32)
