"""Parts of tensors: slices read and written. Source of the semantics: coremltools ops/defs/iOS15/tensor_transformation.py, iOS18 (slice_update).

Writing is a pure function here; when it may happen in place is decided by the executor (execute.py), with `write_slice`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from runtime.mil.ops.registry import Ints, operation

Mask = Ints  # of booleans, one per axis
Selection = tuple[int | slice, ...]


@operation("slice_by_index", proof="ops/test_slices.py::test_slice_by_index_equals_numpy", moves=True)
def slice_by_index(
    x: Tensor,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Ints | None = None,
    end_mask: Ints | None = None,
    squeeze_mask: Ints | None = None,
) -> Tensor:
    """x[begin:end:stride] per axis; a masked begin or end is left out; a squeezed axis is x[begin]."""
    for axis, part in reversed(list(enumerate(selection(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)))):
        if isinstance(part, int):
            x = x.select(axis, part)
        elif (part.step or 1) < 0:
            x = x.index_select(axis, _places(x.shape[axis], part))
        elif part != slice(None, None, 1):
            x = x[(slice(None),) * axis + (part,)]
    return x


@operation("slice_update", proof="ops/test_slices.py::test_slice_update_equals_numpy", moves=True)
def slice_update(
    x: Tensor,
    update: Tensor,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Ints | None = None,
    end_mask: Ints | None = None,
    squeeze_mask: Ints | None = None,
) -> Tensor:
    """x with `update` at the place that slice_by_index would read."""
    result = x.clone()
    write_slice(result, update, selection(x, begin, end, stride, begin_mask, end_mask, squeeze_mask))
    return result


def write_slice(x: Tensor, update: Tensor, places: Selection) -> None:
    """Write `update` into x. Raises ValueError if it has not the size of the places."""
    if any(isinstance(part, slice) and (part.step or 1) < 0 for part in places):
        ranges = [torch.tensor([part]) if isinstance(part, int) else _places(size, part) for part, size in zip(places, x.shape, strict=True)]
        grid = torch.meshgrid(*ranges, indexing="ij") if ranges else ()
        _fit(update, grid[0] if grid else x)
        x[grid] = update.reshape(grid[0].shape)
        return
    target = x[places]
    _fit(update, target)
    target.copy_(update.reshape(target.shape))


def selection(
    x: Tensor, begin: Ints, end: Ints, stride: Ints | None, begin_mask: Mask | None, end_mask: Mask | None, squeeze_mask: Mask | None
) -> Selection:
    """An index or a slice per axis. Raises ValueError if there are not as many as axes."""
    rank = x.dim()
    steps, no = stride or (1,) * rank, (0,) * rank
    masks = (begin_mask or no, end_mask or no, squeeze_mask or no)
    if any(len(part) != rank for part in (begin, end, steps, *masks)):
        raise ValueError(f"a slice of {len(begin)} axes for {rank}")
    places: list[int | slice] = []
    for first, last, step, open_begin, open_end, squeeze in zip(begin, end, steps, *masks, strict=True):
        places.append((0 if open_begin else first) if squeeze else slice(None if open_begin else first, None if open_end else last, step))
    return tuple(places)


@operation("slice_by_size", proof="ops/test_slices.py::test_slice_by_size", moves=True)
def slice_by_size(x: Tensor, begin: Ints, size: Ints) -> Tensor:
    """size -1: to the end of the axis."""
    for axis, (first, count) in enumerate(zip(begin, size, strict=True)):
        start = first % x.shape[axis] if first < 0 else first
        x = x.narrow(axis, start, x.shape[axis] - start if count == -1 else count)
    return x


def _places(size: int, part: slice) -> Tensor:
    return torch.tensor(range(size)[part], dtype=torch.int64)


def _fit(update: Tensor, target: Tensor) -> None:
    if update.numel() != target.numel():
        raise ValueError(f"an update of shape {list(update.shape)} for a place of shape {list(target.shape)}")
