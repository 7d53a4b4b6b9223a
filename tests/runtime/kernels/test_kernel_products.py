"""Products on packed weights against numpy in fp64, inside the error model of runtime/kernels/products.py; every variant that this processor runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from runtime.backends.tensors import as_array, as_tensor
from runtime.kernels.products import Blocks, Kernels, brain, single

UNIT = 2.0**-24
Array = NDArray[Any]
EXAMPLES = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def drawn(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(shape).standard_normal(shape, np.float32)


@dataclass(frozen=True)
class Case:
    """A packed weight as a package states it, and activations fp32 [T, K]."""

    codes: Array
    scale: Array
    offset: Array | None
    bits: int
    x: Array
    added: bool = False

    @property
    def width(self) -> int:
        return self.codes.shape[1] // self.scale.shape[1]

    def spread(self, factors: Array) -> Array:
        return np.repeat(factors.astype(np.float64), self.width, 1)

    def weight(self) -> Array:
        codes, scale = self.codes.astype(np.float64), self.spread(self.scale)
        if self.offset is None:
            return scale * codes
        offset = self.spread(self.offset)
        return scale * codes + offset if self.added else scale * (codes - offset)

    def product(self, kernels: Kernels) -> Blocks:
        return kernels.blocks(self.codes, self.scale, self.offset, self.bits, added=self.added)

    def bound(self) -> Array:
        """[T, N]: the model that products.py states, tile by tile."""
        weight, x = np.abs(self.weight()), np.abs(self.x.astype(np.float64))
        offset = 0 if self.offset is None else np.abs(self.spread(self.offset))
        codes, scale = np.abs(self.codes.astype(np.float64)), np.abs(self.spread(self.scale))
        size = scale * codes + offset if self.added else scale * (codes + offset)
        tiles = [slice(s + t, min(s + t + 32, s + self.width)) for s in range(0, self.codes.shape[1], self.width) for t in range(0, self.width, 32)]
        total = np.full((len(x), len(weight)), 2.0**-126)
        for tile in tiles:
            largest = x[:, tile].max(1, keepdims=True)
            step = largest / 32512
            total += np.where(largest < 2.0**-110, x[:, tile] @ weight[:, tile].T, 0.51 * step * weight[:, tile].sum(1))
            total += (2 * len(tiles) + 16) * UNIT * (x[:, tile] + step) @ size[:, tile].T
        return total


@st.composite
def cases(draw: Callable[..., Any]) -> Case:
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, width, blocks = draw(st.integers(1, 40)), draw(st.one_of(st.sampled_from([32, 64]), st.integers(1, 100))), draw(st.integers(1, 6))
    bits, signed, wide = draw(st.integers(1, 8)), draw(st.booleans()), draw(st.booleans())
    low = -(1 << (bits - 1)) if signed else 0
    codes = random.integers(low, low + (1 << bits), (n, width * blocks)).astype(np.int8 if signed else np.uint8)
    scale = random.standard_normal((n, blocks)).astype(np.float32 if wide else np.float16)
    kind = draw(st.sampled_from([None, np.float16, np.float32, np.uint8, np.int8]))
    offset = None if kind is None else random.uniform(0, 1 << (bits - 1), (n, blocks)).astype(kind)
    rows = draw(st.integers(1, 20))
    magnitude = 10.0 ** random.uniform(*draw(st.sampled_from([(0, 0), (-3, 3), (-40, 25)])), (rows, width * blocks))
    x = (random.standard_normal(magnitude.shape) * magnitude).astype(np.float32)
    return Case(codes, scale, offset, bits, x, added=draw(st.booleans()))


@given(case=cases())
@EXAMPLES
def test_blocks_stay_inside_their_error_model(kernels: Kernels, case: Case) -> None:
    product = case.product(kernels)
    expected, x = case.x.astype(np.float64) @ case.weight().T, case.x
    assert (np.abs(product.rows(x) - expected) <= case.bound()).all()
    # each row is what it is alone, bit for bit: batches of sequences rely on it
    assert all(np.array_equal(product.vector(alone), row) for alone, row in zip(x, product.rows(x), strict=True))


@given(case=cases())
@EXAMPLES
def test_selected_rows_are_the_values_themselves(kernels: Kernels, case: Case) -> None:
    index = np.arange(len(case.codes))[::-1].copy()
    offset = np.float32(0) if case.offset is None else np.repeat(case.offset.astype(np.float32), case.width, 1)
    codes, scale = case.codes.astype(np.float32), np.repeat(case.scale.astype(np.float32), case.width, 1)
    expected = codes * scale + offset if case.added else (codes - offset) * scale
    np.testing.assert_array_equal(case.product(kernels).select(index), expected[index])


@given(case=cases())
@EXAMPLES
def test_instruction_sets_agree_to_the_last_bit(runnable: dict[str, Kernels], case: Case) -> None:
    """Integer sums are exact and floats are added in one order, fused: only `generic` rounds twice."""
    found = [case.product(kernels).rows(case.x) for name, kernels in runnable.items() if name != "generic"]
    assert all(np.array_equal(found[0], other) for other in found)


@given(
    n=st.integers(1, 20), k=st.integers(0, 450), rows=st.integers(0, 18), seed=st.integers(0, 2**32), tiny=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
)  # fmt: skip
@EXAMPLES
def test_floats_stay_inside_their_error_model(kernels: Kernels, n: int, k: int, rows: int, seed: int, tiny: bool, dtype: torch.dtype) -> None:
    random = np.random.default_rng(seed)
    weight = torch.from_numpy(random.standard_normal((n, k)) * (1e-7 if tiny else 1)).to(dtype)  # 1e-7: subnormal in fp16
    x = random.standard_normal((rows, k)).astype(np.float32)
    found = kernels.dense(as_array(weight)).rows(x)
    exact = weight.double().numpy()
    bound = (k + 8) * UNIT * (np.abs(x).astype(np.float64) @ np.abs(exact).T)
    assert found.shape == (rows, n)
    assert (np.abs(found - x.astype(np.float64) @ exact.T) <= bound).all()


def test_every_fp16_value_is_widened_exactly(kernels: Kernels) -> None:
    """All 65536 patterns times one, in the tail of a row (one column) and in its body (sixteen)."""
    every = torch.arange(1 << 16).to(torch.int32).to(torch.uint16).view(torch.float16)
    body = torch.zeros(1 << 16, 16, dtype=torch.float16)
    body[:, 3] = every
    for weight in (every[:, None], body):
        product = kernels.dense(weight.numpy())
        np.testing.assert_array_equal(product.vector(np.ones(product.k, np.float32)), every.float().numpy())


def _block_case(n: int = 21, width: int = 40, blocks: int = 3, bits: int = 4) -> Case:
    random = np.random.default_rng(7)
    codes = random.integers(0, 1 << bits, (n, width * blocks)).astype(np.uint8)
    return Case(
        codes, random.random((n, blocks)).astype(np.float16), np.ones((n, blocks), np.float16), bits, np.ones((9, width * blocks), np.float32)
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("column", [0, 39, 40, 71, 119])
def test_a_value_that_is_not_finite_reaches_every_output_of_its_row_only(kernels: Kernels, value: float, column: int) -> None:
    case = _block_case()
    x = case.x.copy()
    x[4, column] = value
    for product in (case.product(kernels), kernels.dense(np.zeros((21, 120), np.float16))):
        finite = np.isfinite(product.rows(x))
        assert not finite[4].any()
        assert finite[[0, 1, 2, 3, 5, 6, 7, 8]].all()


@pytest.mark.parametrize("magnitude", [0.0, -0.0, 1e-45, 1e-39, 1e-33, 1e30, 1e36, 3e38])
def test_extreme_activations_are_right_or_not_finite(kernels: Kernels, magnitude: float) -> None:
    case = _block_case(bits=8)
    case = Case(case.codes, case.scale, case.offset, 8, np.full((1, 120), magnitude, np.float32))
    found, expected = case.product(kernels).rows(case.x), case.x.astype(np.float64) @ case.weight().T
    finite = np.isfinite(found)
    assert (np.abs(found - expected) <= case.bound())[finite].all()
    assert finite.all() or magnitude > 1e30


def test_no_rows_give_no_rows(kernels: Kernels) -> None:
    case = _block_case()
    for product in (case.product(kernels), kernels.dense(np.ones((21, 120), np.float16))):
        assert product.rows(np.empty((0, 120), np.float32)).shape == (0, 21)
        assert product.select(np.empty(0, np.int64)).shape == (0, 120)


def test_fp16_is_multiplied_where_it_lies(kernels: Kernels) -> None:
    weight = drawn(8, 64).astype(np.float16)
    product = kernels.dense(weight)
    assert np.shares_memory(product.weight, weight)
    assert product.nbytes == 8 * 64 * 2
    assert np.array_equal(product.select(np.array([3, 3])), weight[[3, 3]].astype(np.float32))


def test_four_bit_codes_take_four_bits(kernels: Kernels) -> None:
    product = kernels.blocks(np.zeros((32, 64), np.uint8), np.ones((32, 2), np.float16), None, 4)
    assert (product.n, product.k, product.nbytes) == (32, 64, 32 * 64 // 2 + 32 * 2 * 2)


def test_activations_need_not_be_contiguous(kernels: Kernels) -> None:
    case = _block_case()
    x = drawn(120, 9).T
    for product in (case.product(kernels), kernels.dense(drawn(120, 21).astype(np.float16).T)):
        assert np.array_equal(product.rows(x), product.rows(np.ascontiguousarray(x)))
        assert np.array_equal(product.vector(x[0]), product.rows(x[:1])[0])


def test_weights_need_not_be_contiguous(kernels: Kernels) -> None:
    codes, scale = np.arange(64 * 32, dtype=np.uint8).reshape(64, 32) & 15, drawn(2, 32).astype(np.float16)
    x = drawn(3, 64)
    expected = kernels.blocks(codes.T.copy(), scale.T.copy(), scale.T.copy() * 8, 4).rows(x)
    assert np.array_equal(kernels.blocks(codes.T, scale.T, scale.T * 8, 4).rows(x), expected)


def test_products_of_several_threads_do_not_meet(kernels: Kernels) -> None:
    product = _block_case().product(kernels)
    given_rows = [drawn(5, 120) for _ in range(4)]
    expected = [product.rows(x) for x in given_rows]
    wrong: list[int] = []

    def work(i: int) -> None:
        wrong.extend(i for _ in range(50) if not np.array_equal(product.rows(given_rows[i]), expected[i]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("x", [np.ones(119, np.float32), np.ones(120), np.ones((1, 120), np.float32)])
def test_wrong_activations_never_reach_c(kernels: Kernels, x: Array) -> None:
    for product in (_block_case().product(kernels), kernels.dense(np.ones((21, 120), np.float16))):
        with pytest.raises(ValueError, match="fp32 activations of 120 columns"):
            product.vector(x)


def test_bf16_is_rounded_as_torch_rounds_it() -> None:
    """Every pattern of the upper half with some of the lower, ties and NaN among them, and fp16."""
    bits = (np.arange(1 << 16, dtype=np.uint32)[:, None] << 16) + np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    for values in (bits.view(np.float32), np.arange(1 << 16).astype(np.uint16).view(np.float16)[None]):
        found, expected = as_tensor(brain(values)), torch.from_numpy(values).bfloat16()
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
        np.testing.assert_array_equal(single(brain(values)), expected.float().numpy())


@pytest.mark.parametrize("index", [-1, 21, 31])
def test_rows_beside_the_weight_are_refused(kernels: Kernels, index: int) -> None:
    """31 would be a row of padding."""
    with pytest.raises(IndexError):
        _block_case().product(kernels).select(np.array([index]))


CODES, SCALE = np.zeros((4, 64), np.uint8), np.ones((4, 2), np.float16)


@pytest.mark.parametrize(
    ("codes", "scale", "offset", "bits", "told"),
    [
        (CODES.astype(np.int32), SCALE, None, 4, "int8 or uint8"),
        (CODES, SCALE, None, 9, "1 to 8 bits"),
        (CODES[:0], SCALE[:0], None, 4, "int8 or uint8"),
        (CODES, np.ones((4, 3), np.float16), None, 4, "a scale per row and block"),
        (CODES, SCALE.astype(np.float64), None, 4, "fp16 or fp32"),
        (CODES, SCALE, SCALE[:, :1], 4, "offsets as scales"),
        (CODES + 16, SCALE, None, 4, "more than 4 bits"),
        (CODES.view(np.int8) + np.int8(8), SCALE, None, 4, "more than 4 bits"),
    ],
)
def test_impossible_weights_are_refused(kernels: Kernels, codes: Any, scale: Any, offset: Any, bits: int, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        kernels.blocks(codes, scale, offset, bits)
    with pytest.raises(ValueError, match="a matrix in fp32, fp16 or bf16"):
        kernels.dense(np.ones((3, 4)))
