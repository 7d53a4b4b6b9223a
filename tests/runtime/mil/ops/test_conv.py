"""Convolution against torch, pooling against loops over windows."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fakes.programs import constant, evaluate

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.normal(0, 1, shape).astype(np.float32)


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize(("stride", "spread", "groups"), [(1, 1, 1), (2, 1, 2), (1, 2, 4)])
def test_conv_equals_torch(axes: int, stride: int, spread: int, groups: int) -> None:
    x, weight, bias = normal(2, 4, *(9, 8, 7)[:axes]), normal(8, 4 // groups, *(3, 5, 3)[:axes]), normal(8)
    options = {"strides": (stride,) * axes, "dilations": (spread,) * axes, "groups": groups}
    torch_conv = (F.conv1d, F.conv2d, F.conv3d)[axes - 1]
    plain = torch_conv(torch.from_numpy(x), torch.from_numpy(weight), torch.from_numpy(bias), stride, 1, spread, groups)
    close(evaluate("conv", x=x, weight=weight, bias=bias, pad_type="custom", pad=(1, 1) * axes, **options), plain)
    if stride == 1:
        same = torch_conv(torch.from_numpy(x), torch.from_numpy(weight), None, 1, "same", spread, groups)
        close(evaluate("conv", x=x, weight=weight, pad_type="same", **options), same)
    shape = evaluate("conv", x=x, weight=weight, pad_type="same", **options).shape
    assert shape == (2, 8, *(-(-size // stride) for size in x.shape[2:]))


def test_same_lower_pads_more_at_the_start() -> None:
    x, weight = np.ones((1, 1, 4), np.float32), np.ones((1, 1, 2), np.float32)
    assert evaluate("conv", x=x, weight=weight, pad_type="same_lower").ravel().tolist() == [1, 2, 2, 2]
    assert evaluate("conv", x=x, weight=weight, pad_type="same").ravel().tolist() == [2, 2, 2, 1]


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize(("stride", "pad", "extra", "groups"), [(1, 0, 0, 1), (2, 1, 1, 2), (3, 1, 2, 1)])
def test_conv_transpose_equals_torch(axes: int, stride: int, pad: int, extra: int, groups: int) -> None:
    x, weight, bias = normal(2, 4, *(5, 4, 3)[:axes]), normal(4, 6 // groups, *(3,) * axes), normal(6)
    torch_conv = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[axes - 1]
    expected = torch_conv(torch.from_numpy(x), torch.from_numpy(weight), torch.from_numpy(bias), stride, pad, extra, groups)
    options: dict[str, Any] = {"output_shape": tuple(expected.shape)} if extra else {}
    found = evaluate(
        "conv_transpose", x=x, weight=weight, bias=bias, pad_type="custom", pad=(pad,) * 2 * axes, strides=(stride,) * axes, groups=groups, **options
    )
    close(found, expected)


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize(("kernel", "stride", "pad"), [(2, 2, 0), (3, 2, 1), (3, 1, 1)])
@pytest.mark.parametrize("ceil", [False, True])
def test_pooling_equals_torch(axes: int, kernel: int, stride: int, pad: int, ceil: bool) -> None:
    x = normal(2, 3, *(8, 7)[:axes])
    options = {"kernel_sizes": (kernel,) * axes, "strides": (stride,) * axes, "pad_type": "custom", "pad": (pad,) * 2 * axes, "ceil_mode": ceil}
    average, largest = ((F.avg_pool1d, F.max_pool1d), (F.avg_pool2d, F.max_pool2d))[axes - 1]
    wide = torch.from_numpy(x)
    close(evaluate("max_pool", x=x, **options), largest(wide, kernel, stride, pad, ceil_mode=ceil))
    for counted in (False, True):
        expected = average(wide, kernel, stride, pad, ceil_mode=ceil, count_include_pad=counted)
        close(evaluate("avg_pool", x=x, exclude_padding_from_average=not counted, **options), expected)


@pytest.mark.parametrize("kind", ["valid", "same", "same_lower"])
def test_pooling_equals_numpy(kind: str) -> None:
    """Every window by hand, over two axes with different strides."""
    x = normal(1, 2, 5, 6)
    kernel, strides = (2, 3), (1, 2)
    around = {"valid": [(0, 0), (0, 0)], "same": [(0, 1), (0, 1)], "same_lower": [(1, 0), (1, 0)]}[kind]
    padded = np.pad(x, [(0, 0), (0, 0), *around], constant_values=np.nan)
    sizes = [(size - window) // step + 1 for size, window, step in zip(padded.shape[2:], kernel, strides, strict=True)]
    largest, squares, average = (np.zeros((1, 2, *sizes), np.float32) for _ in range(3))
    for i, j in product(*map(range, sizes)):
        window = padded[:, :, i : i + 2, 2 * j : 2 * j + 3].reshape(1, 2, -1)
        largest[..., i, j], squares[..., i, j] = np.nanmax(window, -1), np.sqrt(np.nansum(window**2, -1))
        average[..., i, j] = np.nanmean(window, -1)
    options: dict[str, Any] = {"x": x, "kernel_sizes": kernel, "strides": strides, "pad_type": kind}
    close(evaluate("max_pool", **options), largest)
    close(evaluate("l2_pool", **options), squares)
    close(evaluate("avg_pool", exclude_padding_from_average=True, **options), average)


def test_conv_of_quantized_weights() -> None:
    """weight · scale + bias per output channel, then torch's convolution."""
    rng = np.random.default_rng(0)
    x, weight = rng.normal(0, 1, (1, 3, 6, 6)).astype(np.float32), rng.integers(0, 256, (4, 3, 3, 3)).astype(np.uint8)
    scale, bias = rng.uniform(0.01, 0.1, 4).astype(np.float32), rng.normal(0, 1, 4).astype(np.float32)
    for factor, shift in ((scale, bias), (scale[:1], bias[:1])):
        plain = weight * factor.reshape(-1, 1, 1, 1) + shift.reshape(-1, 1, 1, 1)
        options = {"quantization_type": "linear", "strides": (2, 2), "quant_scale": constant(factor), "quant_bias": constant(shift)}
        found = evaluate("conv_quantized", x=x, weight=weight, **options)
        np.testing.assert_allclose(found, F.conv2d(torch.from_numpy(x), torch.from_numpy(plain), stride=2), rtol=1e-4, atol=1e-4)
