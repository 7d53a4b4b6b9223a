"""Codes of 8 and 4 bits are those of coremltools: for one weight, and for a whole package byte for byte."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.coreml.compression.linear import linear
from pipeline.coreml.compression.stored import Form

pytestmark = pytest.mark.export
Bits = Literal[4, 8]


def weight(shape: tuple[int, int], seed: int = 0) -> NDArray[np.float16]:
    """Normal numbers with outliers in a few rows."""
    source = np.random.default_rng(seed)
    values = source.normal(0, 0.05, shape)
    values[:: max(1, shape[0] // 3)] *= 20
    return values.astype(np.float16)


def reference(values: NDArray[np.float16], bits: Bits, block: int) -> Any:
    from pipeline.coreml.messages import load_converter

    load_converter()
    from coremltools.optimize.coreml import _quantization_passes as passes

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # it divides by the scale of a row of zeros
        return passes.linear_quantize_weights.blockwise_compress(values, bits, "LINEAR_SYMMETRIC", True, [1, block])


def assert_same(found: Form, params: Any) -> None:
    assert params.offset is None and set(found.inputs) == {"data", "scale"}
    assert np.array_equal(found.inputs["data"].array(), params.data.astype(np.int8))
    assert np.array_equal(found.inputs["scale"].array(), params.scale)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("block", [0, 16, 32, 64])
def test_codes_and_scales_are_those_of_coremltools(bits: Bits, block: int) -> None:
    values = weight((70, 192))
    assert_same(linear(values, bits, block), reference(values, bits, block))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("block", [0, 32])
def test_rows_of_nothing_and_of_next_to_nothing_have_the_same_codes(bits: Bits, block: int) -> None:
    """Zeros, and subnormal numbers whose scale rounds to 0 or to one step of fp16."""
    values = weight((6, 64))
    values[0], values[1, :32] = 0, 0
    values[2], values[3], values[4] = 6e-8, 1e-6, 3e-5
    assert_same(linear(values, bits, block), reference(values, bits, block))


@pytest.mark.parametrize("bits", [4, 8])
def test_a_block_that_does_not_divide_the_columns_gives_a_scale_for_each_row(bits: Bits) -> None:
    """coremltools leaves such a weight as it is."""
    values = weight((64, 48))
    assert reference(values, bits, 32) is None
    found = linear(values, bits, 32)
    assert found.label == f"int{bits} per channel"
    assert_same(found, reference(values, bits, 0))


def test_many_rows_are_as_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work is split by rows to spare memory; that does not show."""
    from pipeline.coreml.compression import linear as module

    values = weight((70, 64))
    whole = linear(values, 8, 32)
    monkeypatch.setattr(module, "_ROWS", 16)
    assert linear(values, 8, 32) == whole


@pytest.mark.parametrize(("bits", "block"), [(8, 0), (8, 32), (4, 0), (4, 32)])
def test_the_weight_file_of_a_package_holds_what_coremltools_writes_in_its_order(tmp_path: Path, bits: Bits, block: int) -> None:
    """Bytes for bytes, but equal arrays once: coremltools writes the zero bias of every layer again."""
    from fakes.by_coremltools import blobs, compressed
    from fakes.converted_students import compressible

    from pipeline.coreml.compression.compress import student_weights
    from pipeline.coreml.compression.rewrite import rewrite

    package, student = compressible().packages["decode"], compressible().exported.student
    weights = student_weights(package, student, lambda _: None)
    rewrite(package, tmp_path / "ours.mlpackage", lambda found: linear(found.values, bits, block), weights, f"int{bits}")
    granularity = {"granularity": "per_block", "block_size": block} if block else {"granularity": "per_channel"}
    theirs = compressed(package, tmp_path / "theirs.mlpackage", "linear", mode="linear_symmetric", dtype=f"int{bits}", **granularity)
    assert blobs(tmp_path / "ours.mlpackage") == list(dict.fromkeys(blobs(theirs)))
