"""Cutting and resampling of images. Source of the semantics: coremltools ops/defs/iOS15 and iOS17, image_resizing.py."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from runtime.mil.budget import affordable
from runtime.mil.ops.registry import Ints, operation

_PROOF = "ops/test_image.py::test_upsampling_equals_torch"
MODES = frozenset({"STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS"})


@operation("upsample_nearest_neighbor", proof=_PROOF, moves=True)
def upsample_nearest_neighbor(x: Tensor, scale_factor_height: float = 1.0, scale_factor_width: float = 1.0) -> Tensor:
    """x: [..., H, W], at least rank 3."""
    sizes = _scaled(x, scale_factor_height, scale_factor_width)
    planes = F.interpolate(x.reshape(1, -1, *x.shape[-2:]), scale_factor=(scale_factor_height, scale_factor_width), mode="nearest")
    return planes.reshape(*x.shape[:-2], *sizes)


@operation("upsample_bilinear", proof=_PROOF)
def upsample_bilinear(
    x: Tensor,
    scale_factor_height: float = 1.0,
    scale_factor_width: float = 1.0,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> Tensor:
    """To the rounded-down size, at the scale of that size. half_pixel_centers: default unless corners are aligned."""
    if align_corners and half_pixel_centers:
        raise ValueError("aligned corners and half pixel centres exclude each other")
    apart = "UNALIGN_CORNERS" if half_pixel_centers in (None, True) else "DEFAULT"
    height, width = _scaled(x, scale_factor_height, scale_factor_width)
    return resize_bilinear(x, height, width, "STRICT_ALIGN_CORNERS" if align_corners else apart)


@operation("resize_nearest_neighbor", proof=_PROOF, moves=True)
def resize_nearest_neighbor(x: Tensor, target_size_height: int, target_size_width: int) -> Tensor:
    """x: [..., H, W]; the neighbour below the point, as TensorFlow's operation that becomes this one."""
    affordable(*x.shape[:-2], target_size_height, target_size_width)
    planes = F.interpolate(x.reshape(1, -1, *x.shape[-2:]), size=(target_size_height, target_size_width), mode="nearest")
    return planes.reshape(*x.shape[:-2], target_size_height, target_size_width)


@operation("resize_bilinear", proof="ops/test_image.py::test_resize_bilinear_in_every_mode", sampling_mode=MODES)
def resize_bilinear(x: Tensor, target_size_height: int = 1, target_size_width: int = 1, sampling_mode: str = "DEFAULT") -> Tensor:
    """x: [..., H, W]."""
    affordable(*x.shape[:-2], max(target_size_height, x.shape[-2]), target_size_width)
    for axis, size in ((-2, target_size_height), (-1, target_size_width)):
        x = _along(x, axis, sampling_points(x.shape[axis], size, sampling_mode))
    return x


@operation(
    "resize",
    proof="ops/test_image.py::test_resize_of_the_last_axes",
    interpolation_mode=frozenset({"LINEAR", "NEAREST_NEIGHBOR"}),
    sampling_mode=MODES,
)
def resize(x: Tensor, shape: Ints, resized_dims: int, interpolation_mode: str = "LINEAR", sampling_mode: str = "DEFAULT") -> Tensor:
    """The last `resized_dims` sizes of `shape`, 0 for the size that x has.

    NEAREST_NEIGHBOR takes the element nearest to the sampling point (coremltools' test of the operation: 2 elements to 3 in mode DEFAULT are
    elements 0, 1, 1). Of two equally near ones it takes the first, which makes doubling the repetition that TensorFlow has.
    """
    dtype = x.dtype
    for back in range(1, resized_dims + 1):
        size = shape[-back] or x.shape[-back]
        affordable(*x.shape[:-back], size, *x.shape[x.dim() - back + 1 :])
        points = sampling_points(x.shape[-back], size, sampling_mode)
        x = x.index_select(-back, (points - 0.5).ceil().long()) if interpolation_mode != "LINEAR" else _along(x, -back, points)
    return x.to(dtype)


@operation("crop", proof="ops/test_image.py::test_crop_and_affine", moves=True)
def crop(x: Tensor, crop_height: Ints, crop_width: Ints) -> Tensor:
    """x: [..., H, W] without (top, bottom) rows and (left, right) columns."""
    (top, bottom), (left, right) = crop_height, crop_width
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


@operation(
    "resample",
    proof="ops/test_image.py::test_resample_equals_torch",
    sampling_mode=frozenset({"bilinear", "nearest"}),
    padding_mode=frozenset({"constant", "border", "reflection", "symmetric"}),
    coordinates_mode=frozenset({"unnormalized", "normalized_minus_one_to_one", "normalized_zero_to_one"}),
)
def resample(
    x: Tensor,
    coordinates: Tensor,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Tensor:
    """x: [B, C, H, W]; coordinates: [B, H', W', 2] as (x, y) → [B, C, H', W']."""
    affordable(*x.shape[:2], *coordinates.shape[1:3])
    sizes = torch.tensor([x.shape[3], x.shape[2]], dtype=x.dtype)
    places = coordinates.to(x.dtype)
    if coordinates_mode != "unnormalized":
        unit = places if coordinates_mode == "normalized_zero_to_one" else (places + 1) / 2
        places = unit * (sizes - 1) if align_corners else unit * sizes - 0.5
    # torch reflects at the centre of the border pixel with aligned corners (reflection) and at its edge without (symmetric)
    centred = padding_mode != "symmetric"
    grid = 2 * places / (sizes - 1).clamp(min=1) - 1 if centred else (2 * places + 1) / sizes - 1
    kind = {"constant": "zeros", "border": "border"}.get(padding_mode, "reflection")
    shift = padding_value if padding_mode == "constant" else 0.0
    return F.grid_sample(x - shift, grid, mode=sampling_mode, padding_mode=kind, align_corners=centred) + shift


@operation(
    "affine",
    proof="ops/test_image.py::test_crop_and_affine",
    sampling_mode=frozenset({"bilinear"}),
    padding_mode=frozenset({"constant"}),
    coordinates_mode=frozenset({"normalized_minus_one_to_one"}),
)
def affine(
    x: Tensor,
    transform_matrix: Tensor,
    output_height: int,
    output_width: int,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Tensor:
    """transform_matrix: [B or 1, 6], rows (a0, a1, a2) and (b0, b1, b2) of x' and y'."""
    affordable(*x.shape[:2], output_height, output_width)
    matrix = transform_matrix.reshape(-1, 2, 3).expand(x.shape[0], 2, 3)
    grid = F.affine_grid(matrix, [x.shape[0], x.shape[1], output_height, output_width], align_corners=align_corners)
    return resample(x, grid, sampling_mode, padding_mode, padding_value, coordinates_mode, align_corners)


def sampling_points(given: float, wanted: int, mode: str) -> Tensor:
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


def _scaled(x: Tensor, *factors: float) -> list[int]:
    """The last sizes times their factors, rounded down."""
    sizes = [math.floor(size * factor) for size, factor in zip(x.shape[-2:], factors, strict=True)]
    affordable(*x.shape[:-2], *sizes)
    return sizes


def _along(x: Tensor, axis: int, points: Tensor) -> Tensor:
    """Linear interpolation of one axis."""
    below = points.floor().long()
    above = (below + 1).clamp(max=x.shape[axis] - 1)
    weight = (points - below).to(x.dtype).reshape(-1, *[1] * (-1 - axis))
    return x.index_select(axis, below) * (1 - weight) + x.index_select(axis, above) * weight
