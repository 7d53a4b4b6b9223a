"""Resampling of the last two axes. Source of the semantics: coremltools ops/defs/iOS15 and iOS17, image_resizing.py."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from runtime.mil.ops.registry import operation

_PROOF = "ops/test_image.py::test_upsampling_equals_torch"
_MODES = frozenset({"STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS"})


@operation("upsample_nearest_neighbor", proof=_PROOF, moves=True)
def upsample_nearest_neighbor(x: Tensor, scale_factor_height: float = 1.0, scale_factor_width: float = 1.0) -> Tensor:
    return F.interpolate(x, scale_factor=(scale_factor_height, scale_factor_width), mode="nearest")


@operation("upsample_bilinear", proof=_PROOF)
def upsample_bilinear(
    x: Tensor,
    scale_factor_height: float = 1.0,
    scale_factor_width: float = 1.0,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> Tensor:
    """Without aligned corners the centres of pixels are at halves, as in torch; the older convention is not done."""
    if not align_corners and half_pixel_centers is False:
        raise ValueError("neither aligned corners nor half pixel centres: that convention is not done")
    return F.interpolate(x, scale_factor=(scale_factor_height, scale_factor_width), mode="bilinear", align_corners=align_corners)


@operation("resize_nearest_neighbor", proof=_PROOF, moves=True)
def resize_nearest_neighbor(x: Tensor, target_size_height: int, target_size_width: int) -> Tensor:
    return F.interpolate(x, size=(target_size_height, target_size_width), mode="nearest")


@operation("resize_bilinear", proof="ops/test_image.py::test_resize_bilinear_in_every_mode", sampling_mode=_MODES)
def resize_bilinear(x: Tensor, target_size_height: int = 1, target_size_width: int = 1, sampling_mode: str = "DEFAULT") -> Tensor:
    for axis, size in ((-2, target_size_height), (-1, target_size_width)):
        x = _along(x, axis, sampling_points(x.shape[axis], size, sampling_mode))
    return x


def sampling_points(given: int, wanted: int, mode: str) -> Tensor:
    """Where `wanted` points lie on an axis of `given` ones, fp64 [wanted]: the formulas of the documentation of resize_bilinear."""
    steps = torch.arange(wanted, dtype=torch.float64)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if wanted == 1:
            return torch.tensor([(given - 1) / 2 if mode == "ALIGN_CORNERS" else 0.0], dtype=torch.float64)
        points = steps * (given - 1) / (wanted - 1)
    elif mode == "DEFAULT":
        points = steps * (given - given / wanted) / max(1, wanted - 1)
    elif mode == "OFFSET_CORNERS":
        delta = max(1, given - 1) / wanted
        points = (steps + 0.5) * delta
    else:
        points = (steps + 0.5) * given / wanted - 0.5
    return points.clamp(0, given - 1)


def _along(x: Tensor, axis: int, points: Tensor) -> Tensor:
    """Linear interpolation of one axis."""
    below = points.floor().long()
    above = (below + 1).clamp(max=x.shape[axis] - 1)
    weight = (points - below).to(x.dtype).reshape(-1, *[1] * (-1 - axis))
    return x.index_select(axis, below) * (1 - weight) + x.index_select(axis, above) * weight
