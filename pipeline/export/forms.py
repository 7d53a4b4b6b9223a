"""The two shapes in which a student leaves the checkpoint: functions of tensors only, with the cache as an argument.

Here: modules that can be traced once and run at any length, and what `torch.export` needs to write into a cache. Not here:
tracing and saving (torchscript.py).
A cache that is an argument, not a buffer, belongs to the host: its length C is not baked in, and two sequences can share one file.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from runtime.student.model import Student, Write, Writer, slice_writer


def scatter_writer(x: Tensor, position_ids: Tensor, cache: Tensor) -> Write:
    """The writer for `torch.export`: the start is a number that only the running program knows, with the range that slicing must know beforehand.

    Scattered and not assigned: the converter cannot see that an assigned slice has the size of its rows, and adds operations to broadcast them.
    """
    count = x.shape[1]
    start = cast("int", position_ids[0].item())  # a SymInt while exporting
    torch._check(start >= 0)  # type: ignore[no-untyped-call]
    torch._check(start + count <= cache.shape[2])  # type: ignore[no-untyped-call]

    def write(cache: Tensor, layer: int, rows: Tensor) -> None:
        written = torch.slice_scatter(cache[layer : layer + 1], rows.to(cache.dtype), 2, start, start + count)
        cache.copy_(torch.slice_scatter(cache, written, 0, layer, layer + 1))

    return write


class PrefillForm(nn.Module):
    """Two methods over the same weights: `forward` is the guide's signature, `prefill` fills a cache for decoding."""

    def __init__(self, student: Student, writer: Writer = slice_writer) -> None:
        super().__init__()
        self.student, self.writer = student, writer

    def forward(self, input_ids: Tensor) -> tuple[Tensor, ...]:
        """input_ids: int32 [1, T] → logits [1, T, V], and with a halt head halt_logits [1, 2] of the last position. Causal, no cache."""
        return _heads(self.student, self.student.hidden(input_ids))

    def prefill(self, input_ids: Tensor, position_ids: Tensor, last_index: Tensor, k_cache: Tensor, v_cache: Tensor) -> tuple[Tensor, ...]:
        """Write T positions into the caches and read the heads at one of them.

        input_ids: int32 [1, T]; position_ids: int32 [T], consecutive; last_index: int32 [1], the last real token of a right-padded prompt;
        k_cache, v_cache: [L, H_kv, C, D] fp32 or fp16, written in place. Returns logits [1, 1, V], [halt_logits [1, 2],] hidden [1, 1, d].
        """
        hidden = self.student.extend(input_ids, position_ids, k_cache, v_cache, writer=self.writer)
        last = torch.index_select(hidden, 1, last_index)
        return (*_heads(self.student, last), last)


class DecodeForm(nn.Module):
    """One step more: `forward` takes a token, `latent` the vector of a latent slot in its place."""

    def __init__(self, student: Student, writer: Writer = slice_writer) -> None:
        super().__init__()
        self.student, self.writer = student, writer

    def forward(self, input_ids: Tensor, position_ids: Tensor, k_cache: Tensor, v_cache: Tensor) -> tuple[Tensor, ...]:
        """input_ids: int32 [1, 1]; position_ids: int32 [1]; caches as for prefill → logits [1, 1, V], [halt_logits [1, 2],] hidden [1, 1, d]."""
        return self._step(input_ids, position_ids, k_cache, v_cache)

    def latent(self, inputs_embeds: Tensor, position_ids: Tensor, k_cache: Tensor, v_cache: Tensor) -> tuple[Tensor, ...]:
        """inputs_embeds: fp32 [1, 1, d], the hidden state of the step before; else as `forward`."""
        return self._step(inputs_embeds, position_ids, k_cache, v_cache)

    def _step(self, x: Tensor, position_ids: Tensor, k_cache: Tensor, v_cache: Tensor) -> tuple[Tensor, ...]:
        hidden = self.student.extend(x, position_ids, k_cache, v_cache, writer=self.writer)
        return (*_heads(self.student, hidden), hidden)


def _heads(student: Student, hidden: Tensor) -> tuple[Tensor, ...]:
    """hidden: [1, T, d] → logits [1, T, V], and halt_logits [1, 2] of the last position where the student has that head."""
    logits = student.logits(hidden)
    return (logits, student.halt(hidden[:, -1])) if student.heads.use_halt_head else (logits,)
