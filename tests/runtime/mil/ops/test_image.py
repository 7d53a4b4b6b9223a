"""Resampling against torch, and against the published formulas point by point."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fakes.programs import evaluate

X = np.random.default_rng(0).normal(0, 1, (1, 2, 4, 5)).astype(np.float32)


@pytest.mark.parametrize("corners", [False, True])
def test_upsampling_equals_torch(corners: bool) -> None:
    x = torch.from_numpy(X)
    nearest = F.interpolate(x, scale_factor=(2, 3), mode="nearest")
    np.testing.assert_array_equal(evaluate("upsample_nearest_neighbor", x=X, scale_factor_height=2, scale_factor_width=3), nearest)
    np.testing.assert_array_equal(evaluate("resize_nearest_neighbor", x=X, target_size_height=8, target_size_width=15), nearest)
    found = evaluate("upsample_bilinear", x=X, scale_factor_height=2.0, scale_factor_width=3.0, align_corners=corners)
    np.testing.assert_allclose(found, F.interpolate(x, scale_factor=(2, 3), mode="bilinear", align_corners=corners), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("factors", [(1.5, 2.25), (0.5, 0.7)])
def test_fractional_factors_round_the_size_and_use_its_scale(factors: tuple[float, float]) -> None:
    x = torch.from_numpy(X)
    expected = F.interpolate(x, scale_factor=factors, mode="bilinear", align_corners=False, recompute_scale_factor=True)
    options = {"scale_factor_height": factors[0], "scale_factor_width": factors[1], "align_corners": False}
    np.testing.assert_allclose(evaluate("upsample_bilinear", x=X, **options), expected, rtol=1e-4, atol=1e-6)
    nearest = evaluate("upsample_nearest_neighbor", x=X[0], scale_factor_height=factors[0], scale_factor_width=factors[1])
    np.testing.assert_array_equal(nearest, F.interpolate(x, scale_factor=factors, mode="nearest")[0])


def test_upsampling_without_corners_or_centres_starts_at_the_first_element() -> None:
    """The published example: 1, 2 to six."""
    options = {"scale_factor_height": 1, "scale_factor_width": 3, "align_corners": False, "half_pixel_centers": False}
    found = evaluate("upsample_bilinear", x=np.array([[[[1.0, 2.0]]]], np.float32), **options)
    np.testing.assert_allclose(found.ravel(), [1, 4 / 3, 5 / 3, 2, 2, 2], rtol=1e-6)


def test_the_nearest_element_is_nearest_to_the_point() -> None:
    """2 to 3 as published (0, 1, 1); doubling repeats; sizes the element has are kept."""
    x = np.array([[-6.0, 9.0]], np.float32)
    for size, expected in ((3, [-6, 9, 9]), (4, [-6, -6, 9, 9]), (0, [-6, 9])):
        found = evaluate("resize", x=x, shape=np.array([1, size], np.int32), resized_dims=1, interpolation_mode="NEAREST_NEIGHBOR")
        assert found.ravel().tolist() == expected


@pytest.mark.parametrize(("mode", "corners"), [("STRICT_ALIGN_CORNERS", True), ("ALIGN_CORNERS", True), ("UNALIGN_CORNERS", False)])
@pytest.mark.parametrize("size", [(8, 15), (3, 2), (7, 5)])
def test_resize_bilinear_equals_torch_where_it_has_the_mode(mode: str, corners: bool, size: tuple[int, int]) -> None:
    expected = F.interpolate(torch.from_numpy(X), size=size, mode="bilinear", align_corners=corners)
    found = evaluate("resize_bilinear", x=X, target_size_height=size[0], target_size_width=size[1], sampling_mode=mode)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def points(given: int, wanted: int, mode: str) -> Any:
    """The documentation's formulas, one point at a time."""
    for i in range(wanted):
        if mode == "DEFAULT":
            yield min(given - 1, max(0, i * (given - given / wanted) / max(1, wanted - 1)))
        else:
            delta = max(1, given - 1) / wanted
            yield min(given - 1, max(0, 0.5 * delta + i * delta))


@pytest.mark.parametrize("mode", ["DEFAULT", "OFFSET_CORNERS"])
def test_resize_bilinear_in_every_mode(mode: str) -> None:
    row = np.random.default_rng(1).normal(0, 1, (1, 1, 1, 5)).astype(np.float32)
    for wanted in (1, 3, 5, 9):
        expected = [np.interp(point, np.arange(5), row.ravel()) for point in points(5, wanted, mode)]
        found = evaluate("resize_bilinear", x=row, target_size_height=1, target_size_width=wanted, sampling_mode=mode)
        np.testing.assert_allclose(found.ravel(), expected, rtol=1e-4, atol=1e-6)


def test_resize_of_the_last_axes() -> None:
    expected = F.interpolate(torch.from_numpy(X), size=(7, 5), mode="bilinear", align_corners=False)
    size = np.array([9, 7, 0], np.int32)
    options = {"resized_dims": 2, "interpolation_mode": "LINEAR", "sampling_mode": "UNALIGN_CORNERS"}
    np.testing.assert_allclose(evaluate("resize", out=("fp32",), x=X, shape=size, **options), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("sampling", ["bilinear", "nearest"])
@pytest.mark.parametrize(
    ("padding", "theirs"), [("constant", "zeros"), ("border", "border"), ("reflection", "reflection"), ("symmetric", "reflection")]
)
def test_resample_equals_torch(sampling: str, padding: str, theirs: str) -> None:
    grid = np.random.default_rng(3).uniform(-1.6, 1.6, (1, 3, 6, 2)).astype(np.float32)
    aligned = padding != "symmetric"
    expected = F.grid_sample(torch.from_numpy(X), torch.from_numpy(grid), sampling, theirs, aligned).numpy()
    options = {"sampling_mode": sampling, "padding_mode": padding, "padding_value": 0.0}
    found = evaluate("resample", x=X, coordinates=grid, coordinates_mode="normalized_minus_one_to_one", align_corners=aligned, **options)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    unit = evaluate("resample", x=X, coordinates=(grid + 1) / 2, coordinates_mode="normalized_zero_to_one", align_corners=aligned, **options)
    np.testing.assert_allclose(unit, expected, rtol=1e-3, atol=1e-5)


def test_resample_at_pixels_and_outside() -> None:
    """Plain pixel coordinates give the pixels, places outside the value of the padding."""
    places = np.array([[[[0, 0], [4, 3], [1, 2], [-9, 0]]]], np.float32)
    options = {"sampling_mode": "bilinear", "padding_mode": "constant", "padding_value": 7.0, "coordinates_mode": "unnormalized"}
    found = evaluate("resample", x=X, coordinates=places, align_corners=False, **options)
    expected = np.stack([X[:, :, 0, 0], X[:, :, 3, 4], X[:, :, 2, 1], np.full((1, 2), 7.0)], -1)[:, :, None]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_crop_and_affine() -> None:
    np.testing.assert_array_equal(evaluate("crop", x=X, crop_height=(1, 0), crop_width=(2, 1)), X[:, :, 1:, 2:-1])
    mirrored = np.array([[-1, 0, 0, 0, 1, 0]], np.float32)
    options = {"sampling_mode": "bilinear", "padding_mode": "constant", "padding_value": 0.0, "coordinates_mode": "normalized_minus_one_to_one"}
    found = evaluate("affine", x=X, transform_matrix=mirrored, output_height=4, output_width=5, align_corners=True, **options)
    np.testing.assert_allclose(found, X[..., ::-1], rtol=1e-4, atol=1e-5)
