"""Shapes, order and repetition, and tensors made from nothing but a shape.

Here: what moves or creates elements without looking at them. Not here: slices (slices.py), places that are data (gather.py).
Source of the semantics: coremltools ops/defs/iOS15 … iOS17, tensor_transformation.py and tensor_operation.py.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from runtime.mil.budget import affordable
from runtime.mil.ops.registry import Ints, Tensors, operation

_PROOF = "ops/test_shape.py::test_rearrangements_equal_numpy"
_MADE = "ops/test_shape.py::test_tensors_from_shapes"
_BLOCKS = "ops/test_shape.py::test_space_and_depth"


@operation("reshape", proof="ops/test_shape.py::test_reshape", moves=True)
def reshape(x: Tensor, shape: Ints) -> Tensor:
    """0: the size of the dimension with the same place from the right, 1 where x has none; -1: what is left.

    Where x has as many dimensions as `shape` (required before iOS17), places from the right are places from the left.
    """
    offset = len(shape) - x.dim()
    sizes = [(x.shape[at - offset] if at >= offset else 1) if size == 0 else size for at, size in enumerate(shape)]
    if -1 in sizes and x.numel() == 0:
        sizes[sizes.index(-1)] = 0
    return x.reshape(sizes)


@operation("reshape_like", proof=_PROOF, moves=True)
def reshape_like(x: Tensor, ref_tensors: Tensors, begins: Tensors, ends: Tensors, end_masks: Tensors) -> Tensor:
    """The sizes [begin:end] of every reference, one after the other."""
    sizes: list[int] = []
    for reference, begin, end, whole in zip(ref_tensors, begins, ends, end_masks, strict=True):
        sizes += reference.shape[int(begin) : None if bool(whole) else int(end)]
    return x.reshape(sizes)


@operation("flatten2d", proof=_PROOF, moves=True)
def flatten2d(x: Tensor, axis: int = 1) -> Tensor:
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@operation("transpose", proof=_PROOF, moves=True)
def transpose(x: Tensor, perm: Ints) -> Tensor:
    return x.permute(perm)


@operation("expand_dims", proof=_PROOF, moves=True)
def expand_dims(x: Tensor, axes: Ints) -> Tensor:
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


@operation("squeeze", proof=_PROOF, moves=True)
def squeeze(x: Tensor, axes: Ints | None = None) -> Tensor:
    if axes is None:
        return x.squeeze()
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        if x.shape[axis] != 1:
            raise ValueError(f"axis {axis} of size {x.shape[axis]} cannot be squeezed")
        x = x.squeeze(axis)
    return x


@operation("tile", proof=_PROOF, moves=True)
def tile(x: Tensor, reps: Ints) -> Tensor:
    affordable(*(size * count for size, count in zip(x.shape, reps, strict=True)))
    return x.repeat(reps)


@operation("concat", proof=_PROOF, moves=True)
def concat(values: Tensors, axis: int, interleave: bool = False) -> Tensor:
    """interleave: element i of every value, then element i + 1."""
    affordable(sum(value.numel() for value in values))
    if interleave:
        at = axis % values[0].dim()
        return torch.stack(values, at + 1).flatten(at, at + 1)
    return torch.cat([value if value.dim() else value.reshape(1) for value in values], axis)


@operation("stack", proof=_PROOF, moves=True)
def stack(values: Tensors, axis: int) -> Tensor:
    affordable(len(values), *values[0].shape)
    return torch.stack(values, axis)


@operation("split", proof=_PROOF, moves=True)
def split(x: Tensor, axis: int, num_splits: int | None = None, split_sizes: Ints | None = None) -> tuple[Tensor, ...]:
    if split_sizes is not None:
        return torch.split(x, list(split_sizes), axis)
    if not num_splits or x.shape[axis] % num_splits:
        raise ValueError(f"an axis of {x.shape[axis]} does not split into {num_splits}")
    return torch.split(x, x.shape[axis] // num_splits, axis) if x.shape[axis] else (x,) * num_splits


@operation("reverse", proof=_PROOF, moves=True)
def reverse(x: Tensor, axes: Ints | None = None) -> Tensor:
    return x.flip(tuple(range(x.dim())) if axes is None else axes)


@operation("reverse_sequence", proof="ops/test_shape.py::test_reverse_sequence", moves=True)
def reverse_sequence(x: Tensor, lengths: Ints, seq_axis: int = 0, batch_axis: int = 0) -> Tensor:
    """The first `lengths[b]` elements along `seq_axis`, in reverse, per element of the batch."""
    result = x.clone()
    for batch, length in enumerate(lengths):
        part = x.select(batch_axis, batch)
        axis = seq_axis % x.dim() - (seq_axis % x.dim() > batch_axis % x.dim())
        result.select(batch_axis, batch).narrow(axis, 0, length).copy_(part.narrow(axis, 0, length).flip(axis))
    return result


@operation("pad", proof="ops/test_shape.py::test_pad_equals_numpy", moves=True, mode=frozenset({"constant", "reflect", "replicate"}))
def pad(x: Tensor, pad: Ints, mode: str = "constant", constant_val: float = 0.0) -> Tensor:
    """Before and after, for the last len(pad)/2 axes."""
    sizes = ((0, 0),) * (x.dim() - len(pad) // 2) + tuple(zip(pad[::2], pad[1::2], strict=True))
    affordable(*(max(0, size + before + after) for size, (before, after) in zip(x.shape, sizes, strict=True)))
    if mode == "constant":
        return F.pad(x, [size for pair in reversed(sizes) for size in pair], value=constant_val)
    for axis, (before, after) in enumerate(sizes):
        if before or after:
            places = np.pad(np.arange(x.shape[axis]), (before, after), mode="edge" if mode == "replicate" else "reflect")
            x = x.index_select(axis, torch.from_numpy(places))
    return x


@operation("band_part", proof="ops/test_shape.py::test_band_part", moves=True)
def band_part(x: Tensor, lower: int = -1, upper: int = -1) -> Tensor:
    """Keeps `lower` diagonals below the main one and `upper` above it, -1: all; zero elsewhere."""
    kept = x if lower < 0 else x.triu(-lower)
    return kept if upper < 0 else kept.tril(upper)


@operation("fill", proof=_MADE)
def fill(shape: Ints, value: Tensor | None = None) -> Tensor:
    affordable(*shape)
    return torch.zeros(shape) if value is None else value.reshape(()).expand(shape).clone()


@operation("fill_like", proof=_MADE)
def fill_like(ref_tensor: Tensor, value: Tensor | None = None) -> Tensor:
    return fill(tuple(ref_tensor.shape), value)


@operation("range_1d", proof=_MADE)
def range_1d(end: Tensor, start: Tensor, step: Tensor) -> Tensor:
    """start, start + step, … before end; in double, as numpy does."""
    if not step.item():
        raise ValueError("steps of zero")
    affordable(max(0, math.ceil((end.item() - start.item()) / step.item())))
    if end.is_floating_point():
        return torch.from_numpy(np.arange(start.item(), end.item(), step.item(), dtype=np.float64))
    return torch.arange(int(start), int(end), int(step))


@operation("shape", proof=_MADE)
def shape(x: Tensor) -> Tensor:
    return torch.tensor(x.shape, dtype=torch.int32)


@operation("one_hot", proof="ops/test_shape.py::test_one_hot")
def one_hot(indices: Tensor, one_hot_vector_size: int, axis: int = -1, on_value: Tensor | None = None, off_value: Tensor | None = None) -> Tensor:
    """A new axis at `axis`; a place outside gives a vector of `off_value`."""
    places = torch.arange(affordable(*indices.shape, one_hot_vector_size)[-1])
    hot = (indices.long().unsqueeze(-1) == places).movedim(-1, axis)
    on, off = torch.ones(()) if on_value is None else on_value, torch.zeros(()) if off_value is None else off_value
    return torch.where(hot, on, off)


@operation("non_zero", proof="ops/test_shape.py::test_non_zero")
def non_zero(x: Tensor) -> Tensor:
    """[count, rank]: the places of what is not zero, in order."""
    affordable(x.numel(), x.dim())
    return torch.nonzero(x)


@operation("sliding_windows", proof="ops/test_shape.py::test_sliding_windows", moves=True)
def sliding_windows(x: Tensor, axis: int, size: int, stride: int = 1) -> Tensor:
    """Windows along `axis`: their number there, their content as the axis after it."""
    at = axis % x.dim()
    return x.unfold(at, size, stride).movedim(-1, at + 1)


@operation("depth_to_space", proof=_BLOCKS, moves=True)
def depth_to_space(x: Tensor, block_size: int) -> Tensor:
    """[B, C·s², H, W] → [B, C, H·s, W·s]: the place in the block is the major part of the channel (TensorFlow's order)."""
    batch, depth, height, width = x.shape
    parts = x.reshape(batch, block_size, block_size, depth // block_size**2, height, width)
    return parts.permute(0, 3, 4, 1, 5, 2).reshape(batch, depth // block_size**2, height * block_size, width * block_size)


@operation("space_to_depth", proof=_BLOCKS, moves=True)
def space_to_depth(x: Tensor, block_size: int) -> Tensor:
    """The inverse of depth_to_space."""
    batch, depth, height, width = x.shape
    parts = x.reshape(batch, depth, height // block_size, block_size, width // block_size, block_size)
    return parts.permute(0, 3, 5, 1, 2, 4).reshape(batch, depth * block_size**2, height // block_size, width // block_size)


@operation("pixel_shuffle", proof=_BLOCKS, moves=True)
def pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    return F.pixel_shuffle(x, upscale_factor)


@operation("pixel_unshuffle", proof=_BLOCKS, moves=True)
def pixel_unshuffle(x: Tensor, downscale_factor: int) -> Tensor:
    return F.pixel_unshuffle(x, downscale_factor)


@operation("space_to_batch", proof=_BLOCKS, moves=True)
def space_to_batch(x: Tensor, block_shape: Ints, paddings: Tensor) -> Tensor:
    """[B, C, H, W] → [B·a·b, C, H'/a, W'/b] after zero padding [[top, bottom], [left, right]] (TensorFlow's order of batches)."""
    (top, bottom), (left, right) = paddings.tolist()
    x = F.pad(x, [left, right, top, bottom])
    batch, depth, height, width = x.shape
    rows, columns = block_shape
    parts = x.reshape(batch, depth, height // rows, rows, width // columns, columns)
    return parts.permute(3, 5, 0, 1, 2, 4).reshape(-1, depth, height // rows, width // columns)


@operation("batch_to_space", proof=_BLOCKS, moves=True)
def batch_to_space(x: Tensor, block_shape: Ints, crops: Tensor) -> Tensor:
    """The inverse of space_to_batch: crops for its paddings."""
    (top, bottom), (left, right) = crops.tolist()
    rows, columns = block_shape
    batch, depth, height, width = x.shape
    parts = x.reshape(rows, columns, batch // (rows * columns), depth, height, width).permute(2, 3, 4, 0, 5, 1)
    whole = parts.reshape(-1, depth, height * rows, width * columns)
    return whole[:, :, top : whole.shape[2] - bottom, left : whole.shape[3] - right]
