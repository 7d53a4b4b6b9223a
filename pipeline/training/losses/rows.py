"""From rows of the student to logits in fp32, some rows at a time.

Here: the head, padded columns, chunks. Not here: losses. At 49,152 tokens the fp32 logits of 2,048 rows are 400 MB, and a softmax keeps as much again
for its gradient; so logits of one chunk exist at a time, and backward makes them again (as TRL's and Liger's chunked losses do).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pipeline.training.losses.sums import TokenSum

# fp32 numbers of one chunk's logits: 64 MiB, and about four times as much with what a divergence keeps.
CHUNK_NUMBERS = 1 << 24


@dataclass(frozen=True)
class Head:
    """How a row becomes logits.

    weight: [V, D], or None where rows are logits already; vocabulary: how many of the V columns are tokens, None for all: those beyond are padding of
    the embedding (151,936 against 152,064 in one family) and take no part; chunk: rows at a time, None for what fits CHUNK_NUMBERS.
    """

    weight: Tensor | None = None
    vocabulary: int | None = None
    chunk: int | None = None

    def logits(self, rows: Tensor) -> Tensor:
        """rows: [n, V] logits, or [n, D] hidden states after the final norm, any float dtype → [n, vocabulary] fp32."""
        scores = rows if self.weight is None else F.linear(rows, self.weight)
        if self.vocabulary is not None and not 0 < self.vocabulary <= scores.shape[-1]:
            raise ValueError(f"vocabulary of {self.vocabulary}: logits have {scores.shape[-1]} columns")
        return scores[:, : self.vocabulary].float()

    def rows_at_a_time(self, rows: Tensor) -> int:
        """How many rows of logits are made at once."""
        width = rows.shape[-1] if self.weight is None else self.weight.shape[0]
        return self.chunk or max(1, CHUNK_NUMBERS // width)


LOGITS = Head()


def summed(loss: Callable[..., Tensor], supervised: Tensor, size: int, *columns: Tensor) -> TokenSum:
    """The sum of `loss` over supervised rows. Only those are looked at: what stands in the others, NaN included, changes nothing.

    supervised: bool [N]; columns: tensors [N, …], the arguments of `loss`, which returns the fp32 sum [] over the rows it is given (maybe none).
    """
    if any(len(column) != len(supervised) for column in columns):
        raise ValueError(f"rows of {[len(column) for column in columns]} for {len(supervised)} marks")
    rows = supervised.nonzero().squeeze(-1)
    count = rows.new_tensor(len(rows))
    # One selection and one split for all chunks: the gradient of a slice is as large as what it was cut from, once per slice.
    chosen = [column if len(rows) == len(column) else column.index_select(0, rows) for column in columns]
    if len(rows) <= size:
        return TokenSum(loss(*chosen), count)
    pieces = zip(*(torch.split(column, size) for column in chosen), strict=True)
    totals = [checkpoint(loss, *piece, use_reentrant=False, preserve_rng_state=False) for piece in pieces]
    return TokenSum(sum(totals[1:], totals[0]), count)
