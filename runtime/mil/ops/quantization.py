"""Activations to small integers and back. Source of the semantics: coremltools ops/defs/iOS17/quantization_ops.py."""

from __future__ import annotations

from torch import Tensor

from runtime.mil.ops.registry import operation

_PROOF = "ops/test_quantization.py::test_quantize_and_dequantize"
_RANGES = {"int8": (-128, 127), "uint8": (0, 255)}


@operation("quantize", proof=_PROOF, output_dtype=frozenset(_RANGES))
def quantize(input: Tensor, scale: Tensor, output_dtype: str, zero_point: Tensor | None = None, axis: int = 0) -> Tensor:
    """round(input / scale) + zero point, kept in range; scalars, or vectors along `axis`."""
    low, high = _RANGES[output_dtype]
    steps = (input / _along(scale, input, axis)).round()
    return (steps if zero_point is None else steps + _along(zero_point, input, axis)).clamp(low, high)


@operation("dequantize", proof=_PROOF)
def dequantize(input: Tensor, scale: Tensor, zero_point: Tensor | None = None, axis: int = 0) -> Tensor:
    """scale · (input - zero point)."""
    values = input.to(scale.dtype)
    return (values if zero_point is None else values - _along(zero_point, input, axis).to(scale.dtype)) * _along(scale, input, axis)


def _along(parameter: Tensor, x: Tensor, axis: int) -> Tensor:
    if not parameter.dim():
        return parameter
    return parameter.reshape([-1 if at == axis % x.dim() else 1 for at in range(x.dim())])
