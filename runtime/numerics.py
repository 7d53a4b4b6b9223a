"""How far one executor's numbers are from another's: the measures that gates and evidence speak in.

Here: measures over two arrays of outputs. Not here: thresholds (gates), who ran what (stages), tables (reports).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# Rows × vocabulary per step: about 10 temporaries of 8 bytes each stay near 170 MB, whatever T and V are.
CHUNK_ELEMENTS = 1 << 21


@dataclass(frozen=True)
class Comparison:
    """`measured` logits against `reference` logits over `positions` rows.

    psnr_db: as psnr_db(), inf when identical. max_abs: largest difference of one logit. kl_mean, kl_max: KL(reference ‖ measured) per row, nats.
    argmax_flips: rows whose top token differs. decided_flips: of those, rows whose reference margin (top 1 - top 2) exceeds 2·max_abs: no
    difference of at most max_abs can flip such a row, so any is a defect. finite: no NaN or infinity on either side; when false, psnr_db,
    max_abs and both KLs are NaN and the counts are over all rows.
    """

    psnr_db: float
    max_abs: float
    kl_mean: float
    kl_max: float
    argmax_flips: int
    decided_flips: int
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


def compare_logits(reference: Tensor, measured: Tensor) -> Comparison:
    """Compare two sets of logits, each [..., V], any float dtypes, position by position.

    Contiguous input is read in place: beside it about 200 MB are used, whatever T and V are. Raises ValueError on unequal shapes or no positions.
    """
    _same_shape(reference, measured)
    vocabulary = reference.shape[-1]
    rows = max(1, CHUNK_ELEMENTS // vocabulary)
    parts = zip(torch.split(reference.reshape(-1, vocabulary), rows), torch.split(measured.reshape(-1, vocabulary), rows), strict=True)
    chunks = [_compare_rows(expected.double(), found.double()) for expected, found in parts]
    kl = torch.cat([chunk.kl for chunk in chunks])
    flipped_margins = torch.cat([chunk.flipped_margins for chunk in chunks])
    finite = all(chunk.finite for chunk in chunks)
    max_abs = max(chunk.max_abs for chunk in chunks) if finite else math.nan
    ratio = _psnr_db(max(chunk.peak for chunk in chunks), sum(chunk.squares for chunk in chunks), reference.numel())
    return Comparison(
        psnr_db=ratio if finite else math.nan,
        max_abs=max_abs,
        kl_mean=kl.mean().item() if finite else math.nan,
        kl_max=kl.max().item() if finite else math.nan,
        argmax_flips=len(flipped_margins),
        decided_flips=int((flipped_margins > 2 * max_abs).sum()) if finite else len(flipped_margins),
        positions=len(kl),
        finite=finite,
    )


@dataclass(frozen=True)
class _Chunk:
    """What one chunk of rows adds to a Comparison. kl: [rows] nats; flipped_margins: reference margins of the rows whose top token differs."""

    peak: float
    squares: float
    max_abs: float
    kl: Tensor
    flipped_margins: Tensor
    finite: bool


def _compare_rows(expected: Tensor, found: Tensor) -> _Chunk:
    """expected, found: fp64 [rows, V]."""
    difference = found - expected
    # The smallest vocabulary has no second token: every margin is then infinite and no flip is possible.
    top = expected.topk(min(2, expected.shape[-1]), dim=-1)
    margin = top.values[:, 0] - top.values[:, 1] if top.values.shape[-1] == 2 else torch.full_like(top.values[:, 0], math.inf)
    flipped = found.argmax(-1) != expected.argmax(-1)
    log_p, log_q = expected.log_softmax(-1), found.log_softmax(-1)
    # fp64 rounding can leave -1e-17 where the true value is 0, and KL is never negative.
    kl = (log_p.exp() * (log_p - log_q)).sum(-1).clamp_min_(0.0)
    finite = bool(torch.isfinite(difference).all())
    return _Chunk(expected.abs().max().item(), difference.square().sum().item(), difference.abs().max().item(), kl, margin[flipped], finite)


def _psnr_db(peak: float, squares: float, count: int) -> float:
    if math.isnan(peak) or math.isnan(squares) or math.isinf(peak) or math.isinf(squares):
        return math.nan
    if squares == 0.0:
        return math.inf
    return 20 * math.log10(peak / math.sqrt(squares / count)) if peak else -math.inf


def _same_shape(reference: Tensor, measured: Tensor) -> None:
    if reference.shape != measured.shape or reference.numel() == 0:
        raise ValueError(f"two arrays of one shape with at least one element, not {tuple(reference.shape)} and {tuple(measured.shape)}")
