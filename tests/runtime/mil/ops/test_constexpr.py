"""Decompression against coremltools' own, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from runtime.mil.ops.registry import CONSTANT_OPERATIONS
from runtime.mil.packing import pack
from runtime.mil.program import BY_NAME, Constant, NamedType, Operation, TensorType
from runtime.mil.weights import Computed, Matrix

RNG = np.random.default_rng(0)
HALF = np.float16


def floats(*shape: int) -> Any:
    return RNG.normal(0, 1, shape).astype(HALF)


def integers(top: int, *shape: int) -> Any:
    return RNG.integers(0, top, shape).astype(np.uint8)


MASK = integers(2, 4, 6)
COUNT = int(MASK.sum())
CASES: list[tuple[str, dict[str, Any]]] = [
    ("constexpr_blockwise_shift_scale", {"data": integers(256, 4, 6).view(np.int8), "scale": floats(4, 1), "offset": None}),
    ("constexpr_blockwise_shift_scale", {"data": integers(16, 4, 6), "scale": floats(2, 3), "offset": integers(16, 2, 3)}),
    ("constexpr_blockwise_shift_scale", {"data": integers(16, 4, 6), "scale": floats(4, 2), "offset": floats(4, 2).round()}),
    ("constexpr_lut_to_dense", {"indices": integers(4, 4, 6), "lut": floats(1, 1, 4, 1), "vector_axis": None}),
    ("constexpr_lut_to_dense", {"indices": integers(8, 4, 6), "lut": floats(2, 3, 8, 1), "vector_axis": None}),
    ("constexpr_lut_to_dense", {"indices": integers(8, 4, 6), "lut": floats(2, 1, 8, 3), "vector_axis": np.int32(0)}),
    ("constexpr_lut_to_dense", {"indices": integers(8, 4, 6), "lut": floats(1, 2, 8, 2), "vector_axis": np.int32(1)}),
    ("constexpr_sparse_to_dense", {"nonzero_data": floats(COUNT), "mask": MASK}),
    ("constexpr_lut_to_sparse", {"indices_mask": MASK, "indices_nonzero_data": integers(4, COUNT), "lut": floats(1, 1, 4, 1), "vector_axis": None}),
    (
        "constexpr_lut_to_sparse",
        {"indices_mask": MASK, "indices_nonzero_data": integers(4, COUNT), "lut": floats(1, 1, 4, 2), "vector_axis": np.int32(0)},
    ),
    (
        "constexpr_sparse_blockwise_shift_scale",
        {"data_mask": MASK, "nonzero_data": integers(16, COUNT), "scale": floats(1, 6), "offset": integers(16, 1, 6)},
    ),
]


@pytest.mark.export
@pytest.mark.parametrize(("name", "given"), CASES)
def test_decompression_equals_coremltools(name: str, given: dict[str, Any]) -> None:
    from coremltools.converters.mil.mil.ops.defs.iOS18 import compression

    expected = getattr(compression, name).decompress(**given)
    found = CONSTANT_OPERATIONS[name].run(**given)
    pairs = zip(found, expected, strict=True) if isinstance(expected, tuple) else [(found, expected)]
    for one, other in pairs:
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.export
def test_the_forms_of_ios16_equal_coremltools() -> None:
    from coremltools.converters.mil.mil.ops.defs.iOS16 import constexpr_ops as published

    run = {name: CONSTANT_OPERATIONS[name].run for name in CONSTANT_OPERATIONS}
    data, zero, scale = integers(256, 4, 6), integers(256, 6), floats(6)
    expected = published.constexpr_affine_dequantize.decompress(data, zero, scale, 1)
    np.testing.assert_array_equal(run["constexpr_affine_dequantize"](data, zero, scale, np.int32(1)), expected)
    shape = np.array([3, 7], np.uint32)
    for bits in (1, 2, 4, 6, 8):
        lut, packed = floats(1 << bits), integers(256, -(-21 * bits // 8))
        expected = published.constexpr_lut_to_dense.decompress(lut, packed, shape)
        np.testing.assert_array_equal(run["constexpr_lut_to_dense"](packed, lut, None, shape), expected)
    mask = np.packbits(RNG.random(21) > 0.5, bitorder="little")
    values = floats(int(np.unpackbits(mask, bitorder="little")[:21].sum()))
    expected = published.constexpr_sparse_to_dense.decompress(values, mask, shape)
    np.testing.assert_array_equal(run["constexpr_sparse_to_dense"](values, mask, shape), expected)
    np.testing.assert_array_equal(run["constexpr_cast"](values, "fp32"), values.astype(np.float32))


def test_blocks_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="do not divide"):
        CONSTANT_OPERATIONS["constexpr_blockwise_shift_scale"].run(integers(16, 4, 6), floats(3, 1))


@pytest.mark.parametrize(("rows", "scales", "offsets"), [(70, (70, 3), None), (70, (1, 3), (70, 3)), (96, (3, 1), (96, 1)), (96, (96, 6), (96, 6))])
def test_rows_read_apart_are_the_rows_of_the_whole(rows: int, scales: tuple[int, int], offsets: tuple[int, int] | None) -> None:
    """The formula row by row in fp64, rounded once: of a code of 4 bits and factors of 11 bits it is exact before that."""
    codes, scale = integers(16, rows, 6), floats(*scales)
    given = {"data": stored("uint4", codes, pack(codes.reshape(-1), 4)), "scale": stored("fp16", scale, scale)}
    shift = np.zeros((rows, 6))
    if offsets is not None:
        offset = integers(16, *offsets)
        given["offset"] = stored("uint8", offset, offset)
        shift = np.repeat(np.repeat(offset, rows // offsets[0], 0), 6 // offsets[1], 1).astype(np.float64)
    kind = TensorType(BY_NAME["fp16"], (rows, 6))
    matrix = Matrix((Computed(Operation("constexpr_blockwise_shift_scale", {}, {}, (NamedType("w", kind),), ()), given, 0),))
    wide = np.repeat(np.repeat(scale, rows // scales[0], 0), 6 // scales[1], 1).astype(np.float64)
    expected = (wide * (codes - shift)).astype(HALF)
    for size in (32, 64, rows):
        parts = [matrix.stored()[start : start + size] for start in range(0, rows, size)]
        np.testing.assert_array_equal(np.concatenate([part.numpy() for part in parts]), expected)


def stored(dtype: str, values: Any, content: Any) -> Constant:
    return Constant(TensorType(BY_NAME[dtype], values.shape), memoryview(content.tobytes()))
