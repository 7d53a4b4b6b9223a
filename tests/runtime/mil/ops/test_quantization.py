"""Quantised activations by the definition's formula."""

from __future__ import annotations

import numpy as np
from fakes.programs import constant, evaluate


def test_quantize_and_dequantize() -> None:
    x = np.array([[-3.0, 0.26, 100.0], [0.4, -0.6, 1.0]], np.float32)
    scale, zero = np.array([0.1, 0.5], np.float32), np.array([3, -2], np.int8)
    expected = np.clip(np.round(x / scale[:, None]) + zero[:, None], -128, 127)
    options = {"scale": constant(scale), "zero_point": constant(zero), "axis": 0}
    found = evaluate("quantize", out=("int8",), input=x, output_dtype="int8", **options)
    np.testing.assert_array_equal(found, expected)
    back = evaluate("dequantize", out=("fp32",), input=found, **options)
    np.testing.assert_allclose(back, scale[:, None] * (expected - zero[:, None]), rtol=1e-6)
    assert evaluate("quantize", out=("uint8",), input=x, scale=0.5, output_dtype="uint8").tolist() == [[0, 1, 200], [1, 0, 2]]
