"""Rearrangements against numpy; blocks against torch and their inverses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fakes.programs import evaluate

from interlock.errors import ContractError

X = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
CASES: list[tuple[str, dict[str, Any], Callable[[Any], Any]]] = [
    ("flatten2d", {"axis": 2}, lambda x: x.reshape(6, 4)),
    ("flatten2d", {"axis": -2}, lambda x: x.reshape(2, 12)),
    ("transpose", {"perm": (2, 0, 1)}, lambda x: x.transpose(2, 0, 1)),
    ("transpose", {"perm": (0, -1, -2)}, lambda x: x.transpose(0, 2, 1)),
    ("expand_dims", {"axes": (0, -1)}, lambda x: x[None, ..., None]),
    ("expand_dims", {"axes": (1, 2)}, lambda x: x[:, None, None]),
    ("tile", {"reps": (2, 1, 3)}, lambda x: np.tile(x, (2, 1, 3))),
    ("reverse", {"axes": (1, -1)}, lambda x: x[:, ::-1, ::-1]),
    ("reverse", {}, lambda x: x[::-1, ::-1, ::-1]),
]


@pytest.mark.parametrize(("name", "options", "expected"), CASES)
def test_rearrangements_equal_numpy(name: str, options: dict[str, Any], expected: Callable[[Any], Any]) -> None:
    np.testing.assert_array_equal(evaluate(name, x=X, **options), expected(X))


def test_squeeze() -> None:
    x = X.reshape(1, 2, 1, 12)
    assert evaluate("squeeze", x=x).shape == (2, 12)
    assert evaluate("squeeze", x=x, axes=(-2,)).shape == (1, 2, 12)
    with pytest.raises(ContractError, match="cannot be squeezed"):
        evaluate("squeeze", x=x, axes=(1,))


def test_joining_and_splitting() -> None:
    y = -X
    np.testing.assert_array_equal(evaluate("concat", out=("fp32",), values=[X, y], axis=-1), np.concatenate([X, y], -1))
    woven = evaluate("concat", out=("fp32",), values=[X, y], axis=1, interleave=True)
    np.testing.assert_array_equal(woven[:, ::2], X)
    np.testing.assert_array_equal(woven[:, 1::2], y)
    np.testing.assert_array_equal(evaluate("stack", out=("fp32",), values=[X, y], axis=1), np.stack([X, y], 1))
    for options in ({"num_splits": 2}, {"split_sizes": (2, 2)}):
        for found, expected in zip(evaluate("split", out=("fp32",) * 2, x=X, axis=2, **options), np.split(X, 2, 2), strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("given", "wanted", "found"),
    [
        ((2, 3, 4), (-1,), (24,)),
        ((2, 50), (1, 0, -1, 0), (1, 1, 2, 50)),
        ((2, 3, 4), (2, 0, 4), (2, 3, 4)),
        ((2, 3, 4), (0, -1, 2), (2, 6, 2)),
        ((0, 3), (-1, 3), (0, 3)),
    ],
)
def test_reshape(given: tuple[int, ...], wanted: tuple[int, ...], found: tuple[int, ...]) -> None:
    """Zeros count from the right; the second case is the example of the documentation of iOS17."""
    x = np.arange(np.prod(given), dtype=np.float32).reshape(given)
    np.testing.assert_array_equal(evaluate("reshape", x=x, shape=wanted), x.reshape(found))


def test_reshape_like() -> None:
    like = evaluate("reshape_like", x=X, ref_tensors=[np.zeros((6, 5), np.float32), np.zeros((9, 4), np.float32)], **MASKS)
    assert like.shape == (6, 4)


MASKS = {"begins": [np.int32(0).reshape(()), np.int32(1).reshape(())], "ends": [np.int32(1).reshape(()), np.int32(0).reshape(())],
         "end_masks": [np.array(False), np.array(True)]}  # fmt: skip


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate"])
@pytest.mark.parametrize("pads", [(1, 2), (0, 1, 2, 0), (1, 0, 2, 1, 0, 3)])
def test_pad_equals_numpy(mode: str, pads: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(0, 1, (2, 3, 4)).astype(np.float32)
    around = [(0, 0)] * (3 - len(pads) // 2) + list(zip(pads[::2], pads[1::2], strict=True))
    value = {"constant_values": 1.5} if mode == "constant" else {}
    expected = np.pad(x, around, mode={"replicate": "edge"}.get(mode, mode), **value)  # type: ignore[call-overload]
    np.testing.assert_array_equal(evaluate("pad", x=x, pad=pads, mode=mode, constant_val=1.5), expected)


@pytest.mark.parametrize(("lower", "upper"), [(0, 0), (1, 0), (-1, 0), (0, -1), (-1, -1), (2, 1)])
def test_band_part(lower: int, upper: int) -> None:
    x = np.arange(1, 21, dtype=np.float32).reshape(4, 5)
    row, column = np.indices(x.shape)
    kept = ((lower < 0) | (row - column <= lower)) & ((upper < 0) | (column - row <= upper))
    np.testing.assert_array_equal(evaluate("band_part", x=x, lower=lower, upper=upper), np.where(kept, x, 0))


def test_tensors_from_shapes() -> None:
    size = np.array([2, 3], np.int32)
    assert evaluate("fill", out=("fp32",), shape=size, value=2.5).tolist() == [[2.5] * 3] * 2
    assert evaluate("fill_like", out=("int32",), ref_tensor=X, value=7).shape == X.shape
    assert evaluate("shape", out=("int32",), x=X).tolist() == [2, 3, 4]
    ends = {"end": np.array(7, np.int32), "start": np.array(1, np.int32), "step": np.array(2, np.int32)}
    assert evaluate("range_1d", **ends).tolist() == [1, 3, 5]
    halves = {"end": np.array(1, np.float32), "start": np.array(0, np.float32), "step": np.array(0.25, np.float32)}
    assert evaluate("range_1d", **halves).tolist() == [0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_one_hot(axis: int) -> None:
    indices = np.array([[0, 2, 3], [1, 5, -1]], np.int32)
    expected = np.moveaxis((indices[..., None] == np.arange(4)) * 3 - 1, -1, axis)
    found = evaluate("one_hot", out=("int32",), indices=indices, one_hot_vector_size=4, axis=axis, on_value=2, off_value=-1)
    np.testing.assert_array_equal(found, expected)


def test_non_zero() -> None:
    x = np.array([[0, 2], [3, 0]], np.float32)
    np.testing.assert_array_equal(evaluate("non_zero", out=("int32",), x=x), np.argwhere(x))


def test_sliding_windows() -> None:
    x = np.arange(14, dtype=np.float32).reshape(2, 7)
    expected = np.stack([x[:, start : start + 3] for start in (0, 2, 4)], 1)
    np.testing.assert_array_equal(evaluate("sliding_windows", x=x, axis=1, size=3, stride=2), expected)


def test_reverse_sequence() -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert evaluate("reverse_sequence", x=x, lengths=(2, 4, 0), seq_axis=1, batch_axis=0).tolist() == [[1, 0, 2, 3], [7, 6, 5, 4], [8, 9, 10, 11]]
    assert evaluate("reverse_sequence", x=x, lengths=(1, 2, 3, 1), seq_axis=0, batch_axis=1).tolist() == [[0, 5, 10, 3], [4, 1, 6, 7], [8, 9, 2, 11]]


def test_space_and_depth() -> None:
    x = np.random.default_rng(0).normal(0, 1, (2, 12, 4, 6)).astype(np.float32)
    wide = torch.from_numpy(x)
    np.testing.assert_array_equal(evaluate("pixel_shuffle", x=x, upscale_factor=2), F.pixel_shuffle(wide, 2))
    np.testing.assert_array_equal(evaluate("pixel_unshuffle", x=x, downscale_factor=2), F.pixel_unshuffle(wide, 2))
    # the place in the block is the major part of the channel: channel (i·2 + j)·3 + c of the input is pixel (i, j) of channel c
    spread = evaluate("depth_to_space", x=x, block_size=2)
    for i in range(2):
        for j in range(2):
            np.testing.assert_array_equal(spread[:, :, i::2, j::2], x[:, (i * 2 + j) * 3 : (i * 2 + j + 1) * 3])
    np.testing.assert_array_equal(evaluate("space_to_depth", x=spread, block_size=2), x)
    pads = np.array([[1, 1], [0, 2]], np.int32)
    apart = evaluate("space_to_batch", x=x, block_shape=(2, 2), paddings=pads)
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (0, 2)])
    for i in range(2):
        for j in range(2):
            np.testing.assert_array_equal(apart[(i * 2 + j) * 2 : (i * 2 + j + 1) * 2], padded[:, :, i::2, j::2])
    np.testing.assert_array_equal(evaluate("batch_to_space", x=apart, block_shape=(2, 2), crops=pads), x)
