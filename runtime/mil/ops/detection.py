"""Choosing boxes and cutting them out. Source of the semantics: coremltools ops/defs/iOS15 and iOS17 (non_maximum_suppression, crop_resize).

What the definitions leave open is taken from coremltools' own tests, whose results are those of Core ML (ops/tests/iOS14/test_tensor_operation.py,
test_image_resizing.py): places of boxes that were not selected hold zero, their indices -1; where no score reaches the threshold the best box
is selected all the same; of classes the one with the highest score is a box's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from runtime.mil.budget import affordable
from runtime.mil.ops.image import MODES, sampling_points
from runtime.mil.ops.registry import operation

_BOX_MODES = frozenset({"CORNERS_HEIGHT_FIRST", "CORNERS_WIDTH_FIRST", "CENTER_SIZE_HEIGHT_FIRST", "CENTER_SIZE_WIDTH_FIRST"})


@operation("non_maximum_suppression", proof="ops/test_detection.py::test_suppression_equals_a_plain_loop", moves=True)
def non_maximum_suppression(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    max_boxes: int,
    score_threshold: float | None = None,
    per_class_suppression: bool = False,
) -> tuple[Tensor, ...]:
    """boxes: [n, B, 4] as (x, y, width, height) of the centre; scores: [n, B, K] → the selected [n, max_boxes, 4] and [n, max_boxes, K], their
    indices [n, max_boxes], how many they are [n]. From iOS17 on boxes are the last axis, the count is gone and so is `score_threshold`, which
    was required before: its absence tells the two apart.
    """
    since_17 = score_threshold is None
    if since_17:
        boxes, scores = boxes.transpose(1, 2), scores.transpose(1, 2)
    batch, _, classes = scores.shape
    affordable(batch, max_boxes, 4 + classes)
    chosen = [_selected(one, of, iou_threshold, score_threshold, per_class_suppression)[:max_boxes] for one, of in zip(boxes, scores, strict=True)]
    kept_boxes, kept_scores = boxes.new_zeros(batch, max_boxes, 4), scores.new_zeros(batch, max_boxes, classes)
    indices = torch.full((batch, max_boxes), -1)
    for row, places in enumerate(chosen):
        kept_boxes[row, : len(places)], kept_scores[row, : len(places)] = boxes[row, places], scores[row, places]
        indices[row, : len(places)] = places
    if since_17:
        return kept_boxes.transpose(1, 2), kept_scores.transpose(1, 2), indices
    return kept_boxes, kept_scores, indices, torch.tensor([len(places) for places in chosen])


def _selected(boxes: Tensor, scores: Tensor, iou_threshold: float, score_threshold: float | None, per_class: bool) -> Tensor:
    """boxes: [B, 4]; scores: [B, K] → places by falling score; of equal scores the first."""
    best, kinds = scores.max(-1)
    order = torch.argsort(best, descending=True, stable=True)
    if score_threshold is not None:
        order = torch.cat([order[:1], order[1:][best[order[1:]] >= score_threshold]])
    kept: list[int] = []
    while len(order):
        first, rest = order[0], order[1:]
        kept.append(int(first))
        rivals = _overlap(boxes[first], boxes[rest]) > iou_threshold
        order = rest[~(rivals & (kinds[rest] == kinds[first]) if per_class else rivals)]
    return torch.tensor(kept, dtype=torch.int64)


def _overlap(box: Tensor, others: Tensor) -> Tensor:
    """Intersection over union; 0 where both are empty."""
    low, high = (
        torch.maximum(box[:2] - box[2:] / 2, others[:, :2] - others[:, 2:] / 2),
        torch.minimum(box[:2] + box[2:] / 2, others[:, :2] + others[:, 2:] / 2),
    )
    shared = (high - low).clamp(min=0).prod(-1)
    union = box[2:].prod() + others[:, 2:].prod(-1) - shared
    return torch.where(union > 0, shared / union, torch.zeros_like(union))


@operation("crop_resize", proof="ops/test_detection.py::test_crops_are_linear_in_the_image", box_coordinate_mode=_BOX_MODES, sampling_mode=MODES)
def crop_resize(
    x: Tensor,
    roi: Tensor | None = None,
    boxes: Tensor | None = None,
    box_indices: Tensor | None = None,
    target_height: int = 1,
    target_width: int = 1,
    normalized_coordinates: bool = False,
    spatial_scale: float = 1.0,
    box_coordinate_mode: str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: str = "DEFAULT",
    pad_value: float = 0.0,
) -> Tensor:
    """x: [B, C, H, W]. Before iOS17 roi: [N, 1, 4, 1, 1] → [N, B, C, h, w], or [N, 1, 5, 1, 1] with the image's number first → [N, 1, C, h, w];
    since then boxes: [N, 4] with box_indices [N] (default: one box per image) → [N, C, h, w]. A point outside the image is `pad_value`.
    """
    places = boxes if roi is None else roi.flatten(1)
    if places is None:
        raise ValueError("neither `roi` nor `boxes`")
    affordable(len(places), x.shape[0] if roi is not None and places.shape[1] == 4 else 1, x.shape[1], target_height, target_width)
    if roi is not None:
        images = [x] * len(places) if places.shape[1] == 4 else [x[_image(x, one)].unsqueeze(0) for one in places[:, 0]]
    else:
        images = [x[_image(x, one)] for one in (torch.arange(len(places)) if box_indices is None else box_indices)]
    crops = []
    for image, box in zip(images, places[:, -4:].double() * spatial_scale, strict=True):
        rows, columns = _box_spans(box.tolist(), box_coordinate_mode)
        crop = image
        for axis, span, size in ((-2, rows, target_height), (-1, columns, target_width)):
            whole = x.shape[axis] - 1
            start, end = (edge * whole for edge in span) if normalized_coordinates else span
            crop = _sampled(crop, axis, _points(start, end, size, sampling_mode), pad_value)
        crops.append(crop)
    return torch.stack(crops) if crops else x.new_zeros(0, *x.shape[1:2], target_height, target_width)


def _box_spans(box: list[float], mode: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """(start, end) of the rows and of the columns."""
    if mode.startswith("CENTER"):
        spans = [(box[at] - box[at + 2] / 2, box[at] + box[at + 2] / 2) for at in (0, 1)]
    else:
        spans = [(box[at], box[at + 2]) for at in (0, 1)]
    return (spans[0], spans[1]) if mode.endswith("HEIGHT_FIRST") else (spans[1], spans[0])


def _points(start: float, end: float, count: int, mode: str) -> Tensor:
    """The points of resize_bilinear, of the interval [0, X-1], moved onto [start, end] (NeuralNetwork.proto, SamplingMode); backwards if needed."""
    length = abs(end - start)
    return start + (1.0 if end >= start else -1.0) * sampling_points(length + 1, count, mode)


def _sampled(x: Tensor, axis: int, points: Tensor, outside: float) -> Tensor:
    """Linear interpolation of one axis at any points."""
    last = x.shape[axis] - 1
    below = points.floor().clamp(0, last).long()
    above = (below + 1).clamp(max=last)
    shape = (-1, *[1] * (-1 - axis))
    weight = (points - below).clamp(0, 1).to(x.dtype).reshape(shape)
    mixed = x.index_select(axis, below) * (1 - weight) + x.index_select(axis, above) * weight
    return torch.where(((points < 0) | (points > last)).reshape(shape), torch.tensor(outside, dtype=x.dtype), mixed)


def _image(x: Tensor, number: Tensor) -> int:
    """Raises ValueError for a number that no image has."""
    if not 0 <= int(number) < x.shape[0]:
        raise ValueError(f"image {int(number)} of {x.shape[0]}")
    return int(number)
