"""Compressed weights: constants that are computed from constants, once, as they are declared.

Functions of numpy arrays. They compute in fp32 what the definition computes in the declared type: one product of a number of at most 16
bits with a number of 11 is exact there, so that rounding the result to fp16 gives the definition's bits.
Source of the semantics: coremltools ops/defs/iOS16/constexpr_ops.py, iOS18/compression.py. The forms of iOS16 keep packed bits and a shape.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from runtime.mil.budget import affordable
from runtime.mil.ops.registry import constant_operation
from runtime.mil.packing import unpack

_PROOF = "ops/test_constexpr.py::test_decompression_equals_coremltools"


@constant_operation("constexpr_blockwise_shift_scale", proof=_PROOF)
def blockwise_shift_scale(data: NDArray[Any], scale: NDArray[Any], offset: NDArray[Any] | None = None) -> NDArray[Any]:
    """scale · (data - offset), a scale per block: block sizes are data's sizes over scale's."""
    values = data.astype(np.float32, order="C")
    if offset is not None:
        _with_blocks(np.subtract, values, offset)
    _with_blocks(np.multiply, values, scale)
    return _rounded(values, scale.dtype)


@constant_operation("constexpr_affine_dequantize", proof=_PROOF)
def affine_dequantize(quantized_data: NDArray[Any], zero_point: NDArray[Any], scale: NDArray[Any], axis: NDArray[Any]) -> NDArray[Any]:
    """scale · (data - zero point), scalars or one of each per element of `axis`."""
    shape = [1] * quantized_data.ndim
    shape[int(axis)] = -1
    zero, factor = (part.astype(np.float32).reshape(shape) if part.ndim else part.astype(np.float32) for part in (zero_point, scale))
    return _rounded(factor * (quantized_data.astype(np.float32) - zero), scale.dtype)


@constant_operation("constexpr_lut_to_dense", proof=_PROOF)
def lut_to_dense(
    indices: NDArray[Any], lut: NDArray[Any], vector_axis: NDArray[Any] | None = None, shape: NDArray[Any] | None = None
) -> NDArray[Any]:
    """lut: [*groups, entries, vector], a table per group of indices; with `shape` (iOS16) one table [entries] and packed indices."""
    if shape is not None:
        sizes = tuple(int(size) for size in shape)
        return np.asarray(lut[unpack(indices, int(np.prod(sizes)), (lut.size - 1).bit_length(), signed=False)].reshape(sizes))
    groups, (entries, vector) = lut.shape[: indices.ndim], lut.shape[indices.ndim :]
    table = _spread(np.arange(int(np.prod(groups))).reshape(groups), indices.shape)
    affordable(indices.size, vector)
    found = lut.reshape(-1, entries, vector)[table, indices]
    if vector == 1:
        return np.asarray(found[..., 0])
    axis = int(vector_axis) % indices.ndim if vector_axis is not None else 0
    sizes = tuple(size * vector if at == axis else size for at, size in enumerate(indices.shape))
    return np.asarray(np.moveaxis(found, -1, axis + 1).reshape(sizes))


@constant_operation("constexpr_sparse_to_dense", proof=_PROOF)
def sparse_to_dense(nonzero_data: NDArray[Any], mask: NDArray[Any], shape: NDArray[Any] | None = None) -> NDArray[Any]:
    """The values where the mask is set, zero elsewhere; with `shape` (iOS16) the mask is packed bits."""
    if shape is not None:
        sizes = tuple(int(size) for size in shape)
        mask = unpack(mask, int(np.prod(sizes)), 1, signed=False).reshape(sizes)
    dense: NDArray[Any] = np.zeros(mask.shape, nonzero_data.dtype)
    dense[mask != 0] = nonzero_data
    return dense


@constant_operation("constexpr_lut_to_sparse", proof=_PROOF)
def lut_to_sparse(
    indices_mask: NDArray[Any], indices_nonzero_data: NDArray[Any], lut: NDArray[Any], vector_axis: NDArray[Any] | None = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The mask, repeated along the vector axis, and the values from the tables where it is set."""
    dense = lut_to_dense(sparse_to_dense(indices_nonzero_data, indices_mask), lut, vector_axis)
    vector = lut.shape[-1]
    mask = np.repeat(indices_mask, vector, axis=int(vector_axis)) if vector_axis is not None else indices_mask
    return mask, dense[mask != 0]


@constant_operation("constexpr_sparse_blockwise_shift_scale", proof=_PROOF)
def sparse_blockwise_shift_scale(
    data_mask: NDArray[Any], nonzero_data: NDArray[Any], scale: NDArray[Any], offset: NDArray[Any] | None = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The mask, and scale · (data - offset) where it is set."""
    dense = blockwise_shift_scale(sparse_to_dense(nonzero_data, data_mask), scale, offset)
    return data_mask, dense[data_mask != 0]


@constant_operation("constexpr_cast", proof=_PROOF)
def cast(source_val: NDArray[Any], output_dtype: str) -> NDArray[Any]:
    """fp16 to fp32."""
    return source_val.astype({"fp32": np.float32, "fp16": np.float16}[output_dtype])


def _with_blocks(operation: np.ufunc, values: NDArray[Any], blocks: NDArray[Any]) -> None:
    """values ∘ the element of their block, in place. values: fp32, contiguous."""
    _check_blocks(blocks, values.shape)
    parts = values.reshape([part for size, count in zip(values.shape, blocks.shape, strict=True) for part in (count, size // count)])
    operation(parts, blocks.astype(np.float32).reshape([part for count in blocks.shape for part in (count, 1)]), out=parts)


def _rounded(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """From fp32; torch rounds to fp16 twenty times faster than numpy."""
    return torch.from_numpy(values).half().numpy() if dtype == np.float16 else values.astype(dtype, copy=False)


def _spread(blocks: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Every element repeated over its block."""
    _check_blocks(blocks, shape)
    for axis, (size, count) in enumerate(zip(shape, blocks.shape, strict=True)):
        if 1 < count < size:
            blocks = np.repeat(blocks, size // count, axis)
    return np.broadcast_to(blocks, shape)


def _check_blocks(blocks: NDArray[Any], shape: tuple[int, ...]) -> None:
    """Raises ValueError if the blocks do not divide the shape."""
    if blocks.ndim != len(shape) or any(not count or size % count for size, count in zip(shape, blocks.shape, strict=True)):
        raise ValueError(f"blocks of shape {blocks.shape} do not divide {shape}")
