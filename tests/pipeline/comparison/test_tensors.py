"""Numbers of two tensors: measured as the definition says, whatever their form, size or place in a chunk."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from pipeline.comparison import tensors
from pipeline.comparison.tensors import Named, compare_tensor, differences, safetensors
from runtime.numerics import psnr_db


def named(values: NDArray[Any], form: str = "fp32") -> Named:
    return Named(values.shape, form, lambda: values)


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
@pytest.mark.parametrize("chunk", [1, 8, 4096])
def test_differences_are_those_of_the_definition(monkeypatch: pytest.MonkeyPatch, size: int, chunk: int) -> None:
    monkeypatch.setattr(tensors, "CHUNK", chunk)
    random = np.random.default_rng(size)
    a, b = (random.standard_normal(size).astype(np.float32) for _ in range(2))
    wide = b.astype(np.float64) - a
    assert differences(a, b) == pytest.approx((np.abs(a).max(), np.abs(wide).max(), (wide**2).sum()), rel=1e-12)


def test_psnr_is_the_one_that_gates_speak_in() -> None:
    random = np.random.default_rng(0)
    a = random.standard_normal((33, 17)).astype(np.float32)
    b = a + random.standard_normal(a.shape).astype(np.float32) * 1e-3
    found = compare_tensor("part", "name", named(a), named(b), 0.0)
    assert found is not None and found.psnr_db == pytest.approx(psnr_db(torch.from_numpy(a), torch.from_numpy(b)), abs=1e-9)


def test_infinities_and_nan_are_equal_to_themselves_only() -> None:
    a = np.array([1.0, -np.inf, np.nan, 3.0], np.float32)
    assert differences(a, a.copy())[1:] == (0.0, 0.0)
    for other in ([1.0, np.inf, np.nan, 3.0], [1.0, -np.inf, 0.0, 3.0], [np.nan, -np.inf, np.nan, 3.0], [1.0, 5.0, np.nan, 3.0]):
        assert differences(a, np.array(other, np.float32))[1] == math.inf
        found = compare_tensor("part", "name", named(a), named(np.array(other, np.float32)), 1.0)
        assert found is not None and not found.within and found.max_abs is None


def test_one_wrong_element_is_found_at_any_place() -> None:
    a = np.ones(3000, np.float16)
    for place in (0, 1, 1499, 2998, 2999):
        b = a.copy()
        b[place] = 1.5
        found = compare_tensor("part", "name", named(a), named(b), 0.0)
        assert found is not None and (found.max_abs, found.relative, found.within) == (0.5, 0.5, False)


def test_the_bound_is_a_share_of_the_greatest_element() -> None:
    a, b = np.array([100.0, 0.0], np.float32), np.array([100.0, 0.1], np.float32)
    for bound, within in ((0.0, False), (0.0009, False), (0.0011, True)):
        found = compare_tensor("part", "name", named(a), named(b), bound)
        assert found is not None and found.within is within
    zeros = compare_tensor("part", "name", named(np.zeros(2)), named(np.ones(2)), 1.0)
    assert zeros is not None and not zeros.within and zeros.relative is None


def test_equal_values_in_another_form_are_told_and_do_not_decide() -> None:
    values = np.array([[0.5, -2.0]], np.float16)
    assert compare_tensor("part", "name", named(values), named(values.copy()), 0.0) is None
    found = compare_tensor("part", "name", named(values, "fp16"), named(values.astype(np.float32), "fp32"), 0.0)
    assert found is not None and found.within and found.max_abs == 0 and (found.form_a, found.form_b) == ("fp16", "fp32")


def test_other_shapes_and_missing_tensors_never_fit() -> None:
    one, other = named(np.zeros((2, 3))), named(np.zeros((3, 2)))
    for a, b in ((one, other), (one, None), (None, one)):
        found = compare_tensor("part", "name", a, b, 1.0)
        assert found is not None and not found.within


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.uint8, torch.int32, torch.int64, torch.bool]
)
def test_a_safetensors_file_reads_as_its_own_library_reads_it(tmp_path: Path, dtype: torch.dtype) -> None:
    stored = {
        "a": (torch.randn(5, 7) * 3).to(dtype),
        "b": torch.ones(4).to(dtype),
        "scalar": torch.tensor(2).to(dtype),
        "none": torch.ones(0, 3).to(dtype),
    }
    save_file(stored, tmp_path / "x.safetensors")
    found = safetensors(tmp_path / "x.safetensors")
    assert {name: item.shape for name, item in found.items()} == {name: tuple(tensor.shape) for name, tensor in stored.items()}
    for name, tensor in stored.items():
        assert np.array_equal(np.ravel(found[name].read()).astype(np.float64), tensor.double().reshape(-1).numpy())
