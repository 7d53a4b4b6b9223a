"""The measures against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.numerics import CHUNK_ELEMENTS, compare_logits, psnr_db


def test_psnr_of_a_constant_error_is_the_ratio_of_peak_and_error() -> None:
    reference = torch.tensor([3.0, -10.0, 0.5, 1.0])
    assert psnr_db(reference, reference + 0.01) == pytest.approx(60.0, abs=1e-4)
    assert psnr_db(reference, reference) == math.inf
    assert psnr_db(torch.zeros(3), torch.ones(3)) == -math.inf
    assert math.isnan(psnr_db(reference, torch.tensor([3.0, math.nan, 0.5, 1.0])))


def test_psnr_does_not_depend_on_where_chunks_end() -> None:
    reference = torch.linspace(-1, 1, CHUNK_ELEMENTS + 17)
    measured = reference + 1e-3 * torch.cos(torch.arange(len(reference)).float())
    rmse = (measured.double() - reference.double()).square().mean().sqrt().item()
    assert psnr_db(reference, measured) == pytest.approx(20 * math.log10(1 / rmse), abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-20, 20), st.floats(-20, 20)), min_size=2, max_size=9))
def test_kl_is_the_sum_that_defines_it(pairs: list[tuple[float, float]]) -> None:
    reference, measured = zip(*pairs, strict=True)
    p_sum, q_sum = math.fsum(map(math.exp, reference)), math.fsum(map(math.exp, measured))
    terms = [math.exp(a) / p_sum * (a - math.log(p_sum) - b + math.log(q_sum)) for a, b in pairs]
    found = compare_logits(torch.tensor([reference], dtype=torch.float64), torch.tensor([measured], dtype=torch.float64))
    assert found.kl_mean == found.kl_max == pytest.approx(math.fsum(terms), abs=1e-9)
    assert found.max_abs == pytest.approx(max(abs(a - b) for a, b in pairs))


def test_a_shift_of_all_logits_is_no_divergence() -> None:
    reference = torch.randn(5, 11, generator=torch.Generator().manual_seed(0))
    found = compare_logits(reference, reference + 3)
    assert found.kl_max < 1e-12 and found.argmax_flips == 0 and found.max_abs == pytest.approx(3, abs=1e-5)


def test_a_flip_is_a_row_whose_greatest_entry_differs() -> None:
    reference = torch.tensor([[0.0, 1.0, 5.0], [0.0, 4.9, 5.0], [5.0, 0.0, 0.0]])
    swapped = torch.tensor([[0.0, 1.0, 5.0], [0.0, 5.0, 4.9], [5.0, 0.0, 0.0]])
    found = compare_logits(reference, swapped)
    assert (found.argmax_flips, found.positions) == (1, 3)
    assert found.max_abs == pytest.approx(0.1)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_never_a_good_number(value: float) -> None:
    measured = torch.zeros(2, 4)
    measured[1, 2] = value
    found = compare_logits(torch.zeros(2, 4), measured)
    assert not found.finite
    assert all(math.isnan(number) for number in (found.psnr_db, found.max_abs, found.kl_mean, found.kl_max))


def test_rows_are_counted_across_chunks() -> None:
    vocabulary = CHUNK_ELEMENTS // 4
    reference = torch.zeros(10, vocabulary)
    reference[:, 0] = 10
    measured = reference.clone()
    measured[9] = measured[9].roll(1)
    found = compare_logits(reference, measured)
    assert (found.positions, found.argmax_flips) == (10, 1)
    assert found.kl_mean == pytest.approx(found.kl_max / 10)


def test_different_shapes_are_a_bug() -> None:
    with pytest.raises(ValueError, match="one shape"):
        psnr_db(torch.zeros(2), torch.zeros(3))
    with pytest.raises(ValueError, match="one shape"):
        compare_logits(torch.zeros(0, 4), torch.zeros(0, 4))
