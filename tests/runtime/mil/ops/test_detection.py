"""Suppression against a loop over pairs of boxes, crops against the image they are cut from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fakes.programs import evaluate
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.errors import ContractError

OUT = ("fp32", "fp32", "int32", "int32")


def overlap(one: Any, other: Any) -> float:
    sides = [min(one[a] + one[a + 2] / 2, other[a] + other[a + 2] / 2) - max(one[a] - one[a + 2] / 2, other[a] - other[a + 2] / 2) for a in (0, 1)]
    shared = max(sides[0], 0.0) * max(sides[1], 0.0)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def selected(boxes: Any, scores: Any, iou: float, least: float, most: int, per_class: bool) -> list[int]:
    """One image, as one would do it by hand."""
    best, kind = scores.max(-1), scores.argmax(-1)
    kept: list[int] = []
    for place in sorted(range(len(boxes)), key=lambda at: -best[at]):
        rivals = [other for other in kept if not per_class or kind[other] == kind[place]]
        if (best[place] >= least or not kept) and all(overlap(boxes[place], boxes[other]) <= iou for other in rivals):
            kept.append(place)
    return kept[:most]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 12),
    classes=st.integers(1, 3),
    most=st.integers(1, 8),
    per_class=st.booleans(),
    iou=st.floats(0.05, 0.9),
)
def test_suppression_equals_a_plain_loop(seed: int, count: int, classes: int, most: int, per_class: bool, iou: float) -> None:
    rng = np.random.default_rng(seed)
    boxes = np.concatenate([rng.uniform(0, 10, (2, count, 2)), rng.uniform(1, 8, (2, count, 2))], -1).astype(np.float32)
    scores = rng.uniform(-1, 1, (2, count, classes)).astype(np.float32)
    options = {"iou_threshold": iou, "max_boxes": most, "per_class_suppression": per_class}
    old = evaluate("non_maximum_suppression", out=OUT, boxes=boxes, scores=scores, score_threshold=0.2, **options)
    new = evaluate("non_maximum_suppression", out=OUT[:3], boxes=boxes.swapaxes(1, 2).copy(), scores=scores.swapaxes(1, 2).copy(), **options)
    for (kept_boxes, kept_scores, indices, *number), least, axes in ((old, 0.2, (0, 1)), (new, -np.inf, (1, 0))):
        for image in range(2):
            expected = selected(boxes[image], scores[image], iou, least, most, per_class)
            rest = most - len(expected)
            assert indices[image].tolist() == expected + [-1] * rest
            np.testing.assert_array_equal(kept_boxes[image].transpose(axes), np.concatenate([boxes[image][expected], np.zeros((rest, 4))]))
            np.testing.assert_array_equal(kept_scores[image].transpose(axes), np.concatenate([scores[image][expected], np.zeros((rest, classes))]))
            assert not number or number[0][image] == len(expected)


IMAGE = np.fromfunction(lambda b, c, y, x: 100 * b + 10 * y + x + 0.5 * c, (2, 2, 5, 6)).astype(np.float32)


@pytest.mark.parametrize("mode", ["CORNERS_HEIGHT_FIRST", "CORNERS_WIDTH_FIRST", "CENTER_SIZE_HEIGHT_FIRST", "CENTER_SIZE_WIDTH_FIRST"])
@pytest.mark.parametrize("normalized", [False, True])
def test_crops_are_linear_in_the_image(mode: str, normalized: bool) -> None:
    """Interpolation of a plane is the plane: every crop is known from its points, which end at the corners of the box."""
    top, left, bottom, right = 0.5, 1.25, 3.0, 4.5
    box = [top, left, bottom, right] if mode.startswith("CORNERS") else [(top + bottom) / 2, (left + right) / 2, bottom - top, right - left]
    box = box if mode.endswith("HEIGHT_FIRST") else [box[1], box[0], box[3], box[2]]
    scale = ([4, 5] if mode.endswith("HEIGHT_FIRST") else [5, 4]) * 2 if normalized else [1] * 4
    boxes = (np.array([box]) / scale).astype(np.float32)
    options = {"target_height": 3, "target_width": 4, "normalized_coordinates": normalized, "box_coordinate_mode": mode}
    expected = np.linspace(top, bottom, 3)[:, None] * 10 + np.linspace(left, right, 4)
    wanted = 100 * np.arange(2)[:, None, None, None] + 0.5 * np.arange(2)[None, :, None, None] + expected
    options["sampling_mode"] = "STRICT_ALIGN_CORNERS"
    found = evaluate("crop_resize", x=IMAGE, boxes=boxes, box_indices=np.array([1], np.int32), **options)
    np.testing.assert_allclose(found, wanted[1:], atol=1e-4)
    every = evaluate("crop_resize", x=IMAGE, roi=boxes.reshape(1, 1, 4, 1, 1), **options)
    np.testing.assert_allclose(every, wanted[None], atol=1e-4)
    numbered = np.concatenate([[[1]], boxes], 1).astype(np.float32).reshape(1, 1, 5, 1, 1)
    np.testing.assert_allclose(evaluate("crop_resize", x=IMAGE, roi=numbered, **options), wanted[None, 1:], atol=1e-4)


@pytest.mark.parametrize("mode", ["STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS"])
@pytest.mark.parametrize("size", [(1, 1), (4, 3), (9, 7)])
def test_the_whole_image_is_what_resize_gives(mode: str, size: tuple[int, int]) -> None:
    boxes = np.array([[0, 0, 4, 5]], np.float32)
    options = {"target_height": size[0], "target_width": size[1], "sampling_mode": mode}
    found = evaluate("crop_resize", x=IMAGE, boxes=boxes, **options)
    expected = evaluate("resize_bilinear", x=IMAGE[:1], target_size_height=size[0], target_size_width=size[1], sampling_mode=mode)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_points_outside_the_image_are_padding() -> None:
    """As TensorFlow's crop_and_resize: a point is outside as a whole."""
    boxes = np.array([[-1, 0, 1, 0]], np.float32)
    options = {"target_height": 3, "target_width": 1, "sampling_mode": "ALIGN_CORNERS", "pad_value": 7.0}
    found = evaluate("crop_resize", x=IMAGE[:1, :1], boxes=boxes, box_indices=np.zeros(1, np.int32), **options)
    assert found.ravel().tolist() == [7.0, 0.0, 10.0]


def test_a_box_of_no_image_is_refused() -> None:
    with pytest.raises(ContractError, match="image 2 of 2"):
        evaluate("crop_resize", x=IMAGE, boxes=np.zeros((1, 4), np.float32), box_indices=np.array([2], np.int32))


def test_a_pool_of_crops_is_what_torch_samples() -> None:
    """Any box, against torch's sampler at the same points."""
    boxes = np.random.default_rng(0).uniform(0, 4, (6, 4)).astype(np.float32)
    images = np.array([0, 1, 0, 1, 0, 1], np.int32)
    found = evaluate("crop_resize", x=IMAGE, boxes=boxes, box_indices=images, target_height=4, target_width=3, sampling_mode="STRICT_ALIGN_CORNERS")
    for crop, (top, left, bottom, right), image in zip(found, boxes, images, strict=True):
        rows, columns = np.linspace(top, bottom, 4), np.linspace(left, right, 3)
        grid = torch.from_numpy(np.stack(np.meshgrid(2 * columns / 5 - 1, 2 * rows / 4 - 1), -1)[None].astype(np.float32))
        expected = F.grid_sample(torch.from_numpy(IMAGE[image : image + 1]), grid, align_corners=True)
        np.testing.assert_allclose(crop, expected[0], atol=1e-4)
