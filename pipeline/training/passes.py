"""The student run over a batch in several passes with gradients: a cache that grows by concatenation, so that a later pass reaches into earlier ones.

Here: one pass, its mask. Not here: the modules (runtime/student/model.py), what is fed in which order (latent.py). A latent span of n slots is n + 1
passes (Coconut, arXiv:2412.06769): the decoders of the runtime write into fixed slots in place, which autograd cannot follow.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from runtime.student.model import HIDDEN_SCORE, Student


@dataclass
class Grown:
    """Keys and values of every layer, each [B, H_kv, S, D], and which columns are padding: [B, S] bool, None where there is none."""

    layers: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    padding: Tensor | None = None
    recompute: bool = False
    """Whether backward computes each layer of each pass again instead of keeping what is inside it (Chen et al. 2016, arXiv:1604.06174)."""

    @property
    def length(self) -> int:
        return self.layers[0][0].shape[2] if self.layers else 0


def run(student: Student, x: Tensor, cache: Grown, padding: Tensor | None = None) -> Tensor:
    """One pass over T more columns. x: int ids [B, T] or float embeddings [B, T, d]; padding: bool [B, T], true where a column is none of the row's.
    Returns [B, T, d] after the final norm; `cache` has T columns more.

    Rotation is by column: scores depend on distances only, so padding on the left changes nothing but rounding.
    """
    x = x if x.is_floating_point() else student.embed(x)
    start = cache.length
    length = x.shape[1]
    cos, sin = student.rope_cos[start : start + length].to(x.dtype), student.rope_sin[start : start + length].to(x.dtype)
    mask = _mask(student, cache, padding, x, start)
    for i, block in enumerate(student.blocks):
        inputs = (x, cos, sin, mask, *(cache.layers[i] if start else (None, None)))
        if cache.recompute:
            x, key, value = checkpoint(block, *inputs, use_reentrant=False)
        else:
            x, key, value = block(*inputs)
        cache.layers[i : i + 1] = [(key, value)]
    out: Tensor = student.norm_f(x)
    return out


def _mask(student: Student, cache: Grown, padding: Tensor | None, x: Tensor, start: int) -> Tensor:
    """What is added to the scores: [1, 1, T, S], with padding [B, 1, T, S]; and the cache's own record of padding, which it brings up to date."""
    batch, length = x.shape[:2]
    columns, own = torch.arange(start + length, device=x.device), torch.arange(start, start + length, device=x.device)[:, None]
    hidden = columns[None, :] > own
    if (window := student.arch.sliding_window) is not None:
        hidden = hidden | (columns[None, :] <= own - window)
    if padding is not None or cache.padding is not None:
        none = torch.zeros(batch, 1, dtype=torch.bool, device=x.device)
        before = cache.padding if cache.padding is not None else none.expand(batch, start)
        cache.padding = torch.cat([before, padding if padding is not None else none.expand(batch, length)], 1)
        # a row of padding sees itself: a softmax over nothing would be NaN
        itself = columns[None, :] == own
        hidden = (hidden[None] | (cache.padding[:, None, :] & ~itself[None]))[:, None]
    else:
        hidden = hidden[None, None]
    return torch.zeros(hidden.shape, dtype=x.dtype, device=x.device).masked_fill(hidden, HIDDEN_SCORE)
