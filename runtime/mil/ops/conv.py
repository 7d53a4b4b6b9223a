"""Convolution and pooling over one to three spatial axes. Source of the semantics: coremltools ops/defs/iOS15, conv.py and pool.py."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from runtime.mil.ops.registry import Ints, operation

_CONV = (F.conv1d, F.conv2d, F.conv3d)
_TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
_PROOF = "ops/test_conv.py::test_pooling_equals_numpy"
_PADDINGS = frozenset({"valid", "custom", "same", "same_lower"})
Pads = list[tuple[int, int]]


@operation("conv", proof="ops/test_conv.py::test_conv_equals_torch", pad_type=_PADDINGS)
def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Tensor:
    """x: [B, C_in, *D]; weight: [C_out, C_in/groups, *K] → [B, C_out, *D']."""
    axes = weight.dim() - 2
    steps, spread = strides or (1,) * axes, dilations or (1,) * axes
    kernel = [(size - 1) * gap + 1 for size, gap in zip(weight.shape[2:], spread, strict=True)]
    padded = F.pad(x, _flat(paddings(pad_type, pad, x.shape[2:], kernel, steps)))
    result: Tensor = _CONV[axes - 1](padded, weight, bias, steps, 0, spread, groups)
    return result


@operation("conv_quantized", proof="ops/test_conv.py::test_conv_of_quantized_weights", quantization_type=frozenset({"linear"}), pad_type=_PADDINGS)
def conv_quantized(
    x: Tensor,
    weight: Tensor,
    quantization_type: str,
    quant_scale: Tensor,
    quant_bias: Tensor,
    bias: Tensor | None = None,
    nbits: int = 8,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Tensor:
    """conv with weight · scale + bias of the quantisation, scalars or one per output channel; the type `lut` names no table and is refused.

    weight: uint8, one number per element whatever `nbits` says.
    """
    scale, shift = (part.to(x.dtype).reshape(-1, *[1] * (weight.dim() - 1)) for part in (quant_scale, quant_bias))
    added = None if bias is None else bias.to(x.dtype)
    return conv(x, weight.to(x.dtype) * scale + shift, added, strides, pad_type, pad, dilations, groups)


@operation("conv_transpose", proof="ops/test_conv.py::test_conv_transpose_equals_torch", pad_type=_PADDINGS - {"same_lower"})
def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    pad: Ints | None = None,
    output_shape: Ints | None = None,
    pad_type: str = "valid",
    strides: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Tensor:
    """x: [B, C_in, *D]; weight: [C_in, C_out/groups, *K] → [B, C_out, *D']: the whole product, cut at its borders."""
    axes = weight.dim() - 2
    steps, spread = strides or (1,) * axes, dilations or (1,) * axes
    whole: Tensor = _TRANSPOSED[axes - 1](x, weight, None, steps, 0, 0, groups, spread)
    for axis in range(axes):
        size = whole.shape[2 + axis]
        if pad_type == "same":
            wanted = x.shape[2 + axis] * steps[axis] if output_shape is None else output_shape[2 + axis]
            before = max(0, size - wanted) // 2
        else:
            before, after = (pad[2 * axis], pad[2 * axis + 1]) if pad_type == "custom" and pad else (0, 0)
            wanted = size - before - after if output_shape is None else output_shape[2 + axis]
        whole = F.pad(whole, [0, 0] * (axes - 1 - axis) + [-before, wanted + before - size])
    return whole if bias is None else whole + bias.reshape(-1, *[1] * axes)


@operation("max_pool", proof=_PROOF, pad_type=_PADDINGS)
def max_pool(
    x: Tensor, kernel_sizes: Ints, strides: Ints | None = None, pad_type: str = "valid", pad: Ints | None = None, ceil_mode: bool = False
) -> Tensor:
    """Padding never wins: it is minus infinity."""
    return _windows(x, kernel_sizes, strides, pad_type, pad, ceil_mode, -math.inf).amax(-1)


@operation("avg_pool", proof=_PROOF, pad_type=_PADDINGS)
def avg_pool(
    x: Tensor,
    kernel_sizes: Ints,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
) -> Tensor:
    """Padding counts as zeros, or not at all; what ceil_mode adds beyond the padding never counts, as in torch."""
    options = (kernel_sizes, strides, pad_type, pad, ceil_mode, 0.0)
    ones = torch.ones_like(x[:1, :1])
    if not exclude_padding_from_average:
        axes = len(kernel_sizes)
        around = paddings(pad_type, pad, x.shape[2:], kernel_sizes, strides or (1,) * axes)
        ones = F.pad(ones, _flat(around), value=1.0)
        count = _windows(ones, kernel_sizes, strides, "valid", None, ceil_mode, 0.0).sum(-1)
        sums = _windows(x, *options).sum(-1)
        return sums / count[tuple(slice(0, size) for size in (1, 1, *sums.shape[2:]))]
    return _windows(x, *options).sum(-1) / _windows(ones, *options).sum(-1)


@operation("l2_pool", proof=_PROOF, pad_type=_PADDINGS)
def l2_pool(
    x: Tensor, kernel_sizes: Ints, strides: Ints | None = None, pad_type: str = "valid", pad: Ints | None = None, ceil_mode: bool = False
) -> Tensor:
    """The root of the sum of squares in every window."""
    return _windows(x * x, kernel_sizes, strides, pad_type, pad, ceil_mode, 0.0).sum(-1).sqrt()


def paddings(kind: str, pad: Ints | None, sizes: Ints | torch.Size, kernel: list[int] | Ints, steps: Ints) -> Pads:
    """What stands before and after every spatial axis. kernel: with its dilation."""
    if kind == "valid":
        return [(0, 0)] * len(sizes)
    if kind == "custom":
        return list(zip(pad[::2], pad[1::2], strict=True)) if pad else [(0, 0)] * len(sizes)
    around = []
    for size, window, step in zip(sizes, kernel, steps, strict=True):
        total = max(0, (-(-size // step) - 1) * step + window - size)
        less, more = total // 2, total - total // 2
        around.append((less, more) if kind == "same" else (more, less))
    return around


def _flat(around: Pads) -> list[int]:
    """As F.pad wants them: the last axis first."""
    return [size for pair in reversed(around) for size in pair]


def _windows(x: Tensor, kernel: Ints, strides: Ints | None, kind: str, pad: Ints | None, ceil_mode: bool, value: float) -> Tensor:
    """x: [B, C, *D] → [B, C, *D', window]: the content of every window, `value` where there is padding."""
    axes = len(kernel)
    steps = strides or (1,) * axes
    around = paddings(kind, pad, x.shape[2:], kernel, steps)
    if ceil_mode:
        around = [_ceiled(size, pair, window, step) for size, pair, window, step in zip(x.shape[2:], around, kernel, steps, strict=True)]
    x = F.pad(x, _flat(around), value=value)
    for axis, (window, step) in enumerate(zip(kernel, steps, strict=True)):
        x = x.unfold(2 + axis, window, step)
    return x.flatten(2 + axes)


def _ceiled(size: int, pair: tuple[int, int], window: int, step: int) -> tuple[int, int]:
    """Padding after the axis such that the last window is whole, if it starts inside the axis or the padding before it."""
    before, after = pair
    count = -(-(size + before + after - window) // step) + 1
    if (count - 1) * step >= size + before:
        count -= 1
    return before, max(after, (count - 1) * step + window - size - before)
