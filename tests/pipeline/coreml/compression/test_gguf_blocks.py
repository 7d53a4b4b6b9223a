"""Blocks of every kind hold what the `gguf` library says, and their forms keep it: exactly, or to fp16 rounding, or not at all."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from fakes.gguf_blocks import LAYOUTS, put, random_blocks
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from pipeline.coreml.compression.gguf_blocks import MIN_SNR_DB, NoForm, form_of, snr_db
from pipeline.coreml.compression.stored import Form
from runtime.student.blocks import UnknownBlocks, decode

KEPT = ("Q4_0", "Q5_0", "Q8_0", "IQ4_NL")
# SNR in dB that the form of random blocks must keep. A minimum is an offset in fp16: 1 dB of what fp16 itself would lose. Scales of K-quants are
# products of 11 and 6 bits, rounded to 11: an error of up to 2^-12, uniform, is 20 log10(√3 · 2^12) = 77 dB, and more from the offset.
ROUNDED = {"Q4_1": 72.5, "Q5_1": 72.5, "Q6_K": 69.0, "Q4_K": 62.0, "Q5_K": 62.0}


def form(kind: str, blocks: NDArray[np.uint8], rows: int = 1) -> Form:
    decoded = decode(kind, blocks)
    return form_of(kind, decoded, decoded.values(), (rows, len(blocks) * LAYOUTS[kind][1] // rows))


def library(kind: str, blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    import gguf

    values: NDArray[np.float32] = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[kind])
    return values


def scales_of(found: Form) -> NDArray[Any]:
    return found.inputs["scale"].array()


@pytest.mark.train
@pytest.mark.parametrize("kind", LAYOUTS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_bytes_decode_to_the_bits_of_the_library(kind: str, data: st.DataObject) -> None:
    """Every byte free, scales too: infinite and NaN ones are compared as they are."""
    blocks = data.draw(arrays.arrays(np.uint8, (4, LAYOUTS[kind][0])))
    with np.errstate(all="ignore"):
        assert np.array_equal(decode(kind, blocks).values().reshape(-1), library(kind, blocks).reshape(-1), equal_nan=True)


@pytest.mark.train
@pytest.mark.parametrize("kind", LAYOUTS)
def test_many_blocks_decode_to_the_bits_of_the_library(kind: str) -> None:
    blocks = random_blocks(kind, 2048)
    assert np.array_equal(decode(kind, blocks).values().reshape(-1), library(kind, blocks).reshape(-1))


@pytest.mark.parametrize("kind", KEPT)
def test_kinds_without_a_minimum_are_kept_exactly(kind: str) -> None:
    blocks = random_blocks(kind, 512)
    assert np.array_equal(form(kind, blocks, 64).values().reshape(-1), decode(kind, blocks).values().reshape(-1).astype(np.float16))


@pytest.mark.parametrize("kind", ROUNDED)
def test_other_kinds_are_kept_as_far_as_fp16_can(kind: str) -> None:
    blocks = random_blocks(kind, 512)
    exact = decode(kind, blocks).values().reshape(-1)
    assert snr_db(exact, form(kind, blocks).values().reshape(-1).astype(np.float32)) >= ROUNDED[kind] > MIN_SNR_DB


@pytest.mark.parametrize(("kind", "bits"), [("Q4_0", 4.625), ("Q4_1", 5), ("Q5_0", 8.5), ("Q5_1", 9), ("Q8_0", 8.75), ("Q4_K", 5), ("Q6_K", 9)])
def test_a_form_is_as_large_as_the_file_or_the_next_type_up(kind: str, bits: float) -> None:
    """Q4_0 has half a byte more in each block, for the zero of those whose scale was negative; Q8_0 a byte, where a code is -128 as here."""
    assert form(kind, random_blocks(kind, 512)).size_bytes * 8 == bits * 512 * LAYOUTS[kind][1]


@pytest.mark.train
@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_weights_quantised_by_the_library_are_carried(kind: str) -> None:
    import gguf

    weight = np.random.default_rng(3).normal(0, 0.04, (24, 96)).astype(np.float32)
    rows = gguf.quants.quantize(weight, gguf.GGMLQuantizationType[kind])
    decoded = decode(kind, rows)
    found = form_of(kind, decoded, decoded.values(), (24, 96))
    exact = gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[kind])
    assert found.values().shape == (24, 96) and scales_of(found).shape == (24, 3)
    assert snr_db(exact, found.values().astype(np.float32)) >= 72.5  # dense fp16 has 73 to 75


@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0", "Q4_1", "Q5_1"])
def test_a_block_of_scale_0_is_all_zeros_or_all_its_minimum(kind: str) -> None:
    blocks = random_blocks(kind, 16)
    scale = np.where(np.arange(16) % 4 == 0, 0, 0.01)
    put(blocks, 0, scale)
    if kind in ("Q4_1", "Q5_1"):
        put(blocks, 2, np.where(np.arange(16) % 8 == 0, -0.75, 0.0))
    found, exact = form(kind, blocks).values().reshape(16, 32), decode(kind, blocks).values().reshape(16, 32).astype(np.float16)
    assert np.array_equal(found[::4], exact[::4]) and (scales_of(form(kind, blocks)) > 0).all()


@pytest.mark.parametrize("kind", ["Q4_1", "Q5_1"])
def test_a_negative_scale_with_a_minimum_is_turned_around(kind: str) -> None:
    """weight = -|s|·c + m, which no writer makes and the format allows."""
    blocks = random_blocks(kind, 256)
    top = 15 if kind == "Q4_1" else 31
    put(blocks, 0, np.full(256, -0.01))
    put(blocks, 2, np.full(256, 0.005 * top))
    exact = decode(kind, blocks).values().reshape(-1)
    assert snr_db(exact, form(kind, blocks).values().reshape(-1).astype(np.float32)) >= 72.5


@pytest.mark.parametrize("kind", ["Q4_1", "Q5_1", "Q4_K"])
def test_minima_far_away_are_refused_with_the_figure(kind: str) -> None:
    """Weights near 20 in steps of 6e-8: an offset of 3e8 steps, and fp16 ends at 65504."""
    blocks = random_blocks(kind, 16)
    put(blocks, 0, np.full(16, 6e-8))
    put(blocks, 2, np.full(16, 20.0))
    with pytest.raises(NoForm, match=rf"{kind} blocks .* are -inf dB from themselves, at least {MIN_SNR_DB:g}"):
        form(kind, blocks)


@pytest.mark.parametrize("kind", ["Q2_K", "Q3_K", "MXFP4", "IQ2_XS", "F16", ""])
def test_kinds_without_a_form_are_refused_by_name(kind: str) -> None:
    with pytest.raises(UnknownBlocks, match=f"{kind} blocks are unknown"):
        decode(kind, np.zeros((1, 34), np.uint8))


@pytest.mark.parametrize("kind", LAYOUTS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_no_scale_is_ever_negative_zero_or_infinite(kind: str, data: st.DataObject) -> None:
    """Any bytes whose weights are finite, which is what an import admits: a form with positive scales that keeps the weight, or a reason."""
    blocks = data.draw(arrays.arrays(np.uint8, (4, LAYOUTS[kind][0])))
    at = LAYOUTS[kind][2]
    if data.draw(st.booleans()):  # else random fp16 patterns hardly ever are of one size
        put(blocks, at, np.full(4, data.draw(st.sampled_from([0.0, 6e-8, -6e-5, 0.01, -0.01, 65504.0]))))
    with np.errstate(all="ignore"):
        decoded = decode(kind, blocks)
        values = decoded.values()
    if not np.isfinite(values).all():
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found = form_of(kind, decoded, values, (2, 2 * LAYOUTS[kind][1]))
        except NoForm as reason:
            assert "dB" in str(reason)
            return
    scale = scales_of(found)
    assert (scale > 0).all() and np.isfinite(scale).all()
    if "offset" in found.inputs:
        assert np.isfinite(found.inputs["offset"].array()).all()
