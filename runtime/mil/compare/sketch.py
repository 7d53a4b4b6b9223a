"""A value in few numbers: enough to tell how far two values are from one another, whatever their size.

Here: sketches and their distance. Not here: whose values, and which distance is too far (values.py).
A value of up to EXACT elements is kept as it is. A larger one is kept as a count sketch (Charikar, Chen, Farach-Colton 2002): every element is
multiplied by a fixed random sign and added to one of BUCKETS sums. The map is linear, so the sketch of a difference is the difference of sketches;
its squares add up to the squared length of the difference on average, and no element is left out, as samples would leave out the one bad channel.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

EXACT, BUCKETS = 1 << 14, 1 << 12
_BLOCK = 1 << 22
# 64 MB are more than glibc ever takes from its heap (mallopt(3), M_MMAP_THRESHOLD); what is not written takes no memory.
_PAGE = 1 << 24
_page = [torch.empty(0)]
# Masks add -1e4 or less (runtime/student/model.py).
HIDDEN = -5000.0


@dataclass(frozen=True, slots=True)
class Sketch:
    """shape: of the value without dimensions of size 1; sums: [numel] or [BUCKETS] fp32, zero where the value is not finite; low, high: its
    range over finite elements; nans, infinities: how many elements are none; scale: the peak of `sums`, hidden scores left out where they are
    known: with them any score would pass for any other."""

    shape: tuple[int, ...]
    exact: bool
    sums: Tensor
    low: float
    high: float
    nans: int
    infinities: int
    scale: float

    @property
    def finite(self) -> bool:
        return self.nans == 0 and self.infinities == 0

    @property
    def peak(self) -> float:
        return max(abs(self.low), abs(self.high))


def squeezed(value: Tensor) -> tuple[int, ...]:
    """The shape without dimensions of size 1."""
    return tuple(size for size in value.shape if size != 1)


def sketched(value: Tensor) -> Sketch:
    """value: any shape and type. A copy: the value may change afterwards."""
    shape = squeezed(value)
    flat = value.detach().reshape(-1).to(torch.float32)
    if flat.numel() == 0:
        return Sketch(shape, True, torch.zeros(0), 0.0, 0.0, 0, 0, 0.0)
    nans = infinities = 0
    low, high = (float(bound) for bound in torch.aminmax(flat))
    if not math.isfinite(low + high):
        nans, infinities = int(flat.isnan().sum()), int(flat.isinf().sum())
        good = flat.isfinite()
        low, high = (float(bound) for bound in torch.aminmax(flat[good])) if bool(good.any()) else (0.0, 0.0)
        flat = torch.where(good, flat, 0.0)
    if flat.numel() <= EXACT:
        shown = flat[flat > HIDDEN] if low <= HIDDEN < -high else flat
        scale = float(shown.abs().max()) if shown.numel() else 0.0
        return Sketch(shape, True, _kept(flat), low, high, nans, infinities, scale)
    sums = torch.zeros(BUCKETS)
    for part in torch.split(flat, _BLOCK):
        # the sign goes with the place in the block; blocks turn by one bucket so that equal blocks do not add up
        whole = torch.nn.functional.pad(part, (0, -len(part) % BUCKETS)) if len(part) % BUCKETS else part
        rows = whole.view(-1, BUCKETS)
        sums = (rows * _signs()[: len(rows)]).sum(0) + sums.roll(1)
    return Sketch(shape, False, _kept(sums), low, high, nans, infinities, float(sums.abs().max()))


def _kept(values: Tensor) -> Tensor:
    """A copy on a page of its own kind: between the values of a run, which come and go, small copies would keep the memory of the large ones."""
    if values.numel() > _page[0].numel():
        _page[0] = torch.empty(_PAGE)
    place, _page[0] = _page[0][: values.numel()], _page[0][values.numel() :]
    return place.copy_(values)


def distance(one: Sketch, other: Sketch) -> tuple[float, float]:
    """(largest, root mean square) difference of two values of one shape; for sketches the first is that of sums, the second an estimate.
    Infinite where one side is finite at as many elements as the other is not."""
    if one.shape != other.shape:
        raise ValueError(f"values of one shape, not {one.shape} and {other.shape}")
    if (one.nans, one.infinities) != (other.nans, other.infinities):
        return math.inf, math.inf
    if one.sums.numel() == 0:
        return 0.0, 0.0
    difference = one.sums - other.sums
    count = math.prod(one.shape) if one.shape else 1
    return float(difference.abs().max()), math.sqrt(float(difference.double().square().sum()) / count)


@functools.cache
def _signs() -> Tensor:
    bits = torch.randint(0, 2, (_BLOCK // BUCKETS, BUCKETS), generator=torch.Generator().manual_seed(20))
    return (bits * 2 - 1).float()
