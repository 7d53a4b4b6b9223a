"""How far one executor's numbers are from another's: the measures that gates and evidence speak in.

Here: measures over two arrays of outputs. Not here: thresholds (gates), who ran what (stages), tables (reports).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Rows × vocabulary per step: about 10 temporaries of 8 bytes each stay near 170 MB, whatever T and V are.
CHUNK_ELEMENTS = 1 << 21


@dataclass(frozen=True)
class Comparison:
    """`measured` logits against `reference` logits over `positions` rows.

    psnr_db: as psnr_db(), inf when identical. max_abs: largest difference of one logit. kl_mean, kl_max: KL(reference ‖ measured) per row, nats.
    argmax_flips: rows whose top token differs. finite: no NaN or infinity on either side; when false, psnr_db, max_abs and both KLs are NaN and the
    counts are over all rows.
    """

    psnr_db: float
    max_abs: float
    kl_mean: float
    kl_max: float
    argmax_flips: int
    positions: int
    finite: bool


def psnr_db(reference: Tensor, measured: Tensor) -> float:
    """20·log10(max|reference| / rmse) in dB: inf when identical, -inf when the reference is all zero and the other is not.

    Any equal shapes and any float dtypes; accumulated in fp64. NaN if either holds a value that is not finite. Raises ValueError on unequal shapes.
    """
    _same_shape(reference, measured)
    peak, squares = 0.0, 0.0
    for expected, found in zip(torch.split(reference.reshape(-1), CHUNK_ELEMENTS), torch.split(measured.reshape(-1), CHUNK_ELEMENTS), strict=True):
        wide = expected.double()
        peak = max(peak, wide.abs().max().item())
        squares += (found.double() - wide).square_().sum().item()
    return _psnr_db(peak, squares, reference.numel())


@dataclass(frozen=True)
class Rows:
    """What a comparison of [n, V] knows of each row: enough to pool rows that were never in memory together. All fp64 [n], `flipped` bool.

    peak: greatest |reference|; squares: sum of squared differences; max_abs; kl: KL(reference ‖ measured) in nats; margin: first minus second
    reference entry, inf where V is 1; flipped: whether the greatest entry is another one. size: V.
    """

    peak: Tensor
    squares: Tensor
    max_abs: Tensor
    kl: Tensor
    margin: Tensor
    flipped: Tensor
    size: int

    def __len__(self) -> int:
        return len(self.peak)

    @property
    def finite(self) -> bool:
        """Whether every difference is."""
        return bool(torch.isfinite(self.squares).all())

    @property
    def psnr_db(self) -> float:
        """Of all rows together, see psnr_db()."""
        return _psnr_db(self.peak.max().item(), self.squares.sum().item(), len(self) * self.size)

    @property
    def worst_psnr_db(self) -> float:
        """Of the row where it is least, against that row's own peak."""
        return min(_psnr_db(peak, squares, self.size) for peak, squares in zip(self.peak.tolist(), self.squares.tolist(), strict=True))

    @staticmethod
    def joined(parts: Sequence[Rows]) -> Rows:
        """Rows of one width in order. Raises ValueError on none."""
        if not parts:
            raise ValueError("at least one part")
        peak, squares, max_abs, kl, margin, flipped = (
            torch.cat([getattr(part, name) for part in parts]) for name in ("peak", "squares", "max_abs", "kl", "margin", "flipped")
        )
        return Rows(peak, squares, max_abs, kl, margin, flipped, parts[0].size)


def compare_rows(reference: Tensor, measured: Tensor) -> Rows:
    """Each row of [..., V], any float dtypes. Beside contiguous input about 200 MB are used, whatever its size.

    Raises ValueError on unequal shapes or no positions.
    """
    _same_shape(reference, measured)
    vocabulary = reference.shape[-1]
    rows = max(1, CHUNK_ELEMENTS // vocabulary)
    parts = zip(torch.split(reference.reshape(-1, vocabulary), rows), torch.split(measured.reshape(-1, vocabulary), rows), strict=True)
    return Rows.joined([_compare_chunk(expected.double(), found.double()) for expected, found in parts])


def compare_logits(reference: Tensor, measured: Tensor) -> Comparison:
    """Compare two sets of logits, each [..., V], any float dtypes, position by position. Memory and errors as for compare_rows."""
    rows = compare_rows(reference, measured)
    finite = rows.finite
    max_abs = rows.max_abs.max().item() if finite else math.nan
    return Comparison(
        psnr_db=rows.psnr_db if finite else math.nan,
        max_abs=max_abs,
        kl_mean=rows.kl.mean().item() if finite else math.nan,
        kl_max=rows.kl.max().item() if finite else math.nan,
        argmax_flips=int(rows.flipped.sum()),
        positions=len(rows),
        finite=finite,
    )


def _compare_chunk(expected: Tensor, found: Tensor) -> Rows:
    """expected, found: fp64 [rows, V]."""
    difference = found - expected
    # The smallest vocabulary has no second token: every margin is then infinite and no flip is possible.
    top = expected.topk(min(2, expected.shape[-1]), dim=-1).values
    margin = top[:, 0] - top[:, 1] if top.shape[-1] == 2 else torch.full_like(top[:, 0], math.inf)
    log_p, log_q = expected.log_softmax(-1), found.log_softmax(-1)
    # fp64 rounding can leave -1e-17 where the true value is 0, and KL is never negative.
    kl = (log_p.exp() * (log_p - log_q)).sum(-1).clamp_min_(0.0)
    size = difference.abs()
    flipped = found.argmax(-1) != expected.argmax(-1)
    return Rows(expected.abs().amax(-1), difference.square().sum(-1), size.amax(-1), kl, margin, flipped, expected.shape[-1])


def _psnr_db(peak: float, squares: float, count: int) -> float:
    if math.isnan(peak) or math.isnan(squares) or math.isinf(peak) or math.isinf(squares):
        return math.nan
    if squares == 0.0:
        return math.inf
    return 20 * math.log10(peak / math.sqrt(squares / count)) if peak else -math.inf


def _same_shape(reference: Tensor, measured: Tensor) -> None:
    if reference.shape != measured.shape or reference.numel() == 0:
        raise ValueError(f"two arrays of one shape with at least one element, not {tuple(reference.shape)} and {tuple(measured.shape)}")
