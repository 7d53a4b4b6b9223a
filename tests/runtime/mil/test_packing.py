"""Numbers of fewer than eight bits: what is packed is what is read, in the order that a string of bits shows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.mil.packing import pack, unpack

WIDTHS = (1, 2, 3, 4, 6)
NUMBERS = st.sampled_from(WIDTHS).flatmap(lambda bits: st.tuples(st.just(bits), st.lists(st.integers(0, (1 << bits) - 1), max_size=70)))


@given(NUMBERS)
def test_unpacking_gives_what_was_packed(case: tuple[int, list[int]]) -> None:
    bits, numbers = case
    packed = pack(np.array(numbers, np.uint8), bits)
    assert packed.dtype == np.uint8 and packed.size == -(-len(numbers) * bits // 8)
    assert unpack(packed, len(numbers), bits, signed=False).tolist() == numbers


@given(NUMBERS)
def test_bytes_are_those_of_a_string_of_bits(case: tuple[int, list[int]]) -> None:
    """The lowest bit of the first number is the lowest of the first byte; unused bits of the last byte are 0."""
    bits, numbers = case
    written = "".join(format(number, f"0{bits}b")[::-1] for number in numbers)
    written += "0" * (-len(written) % 8)
    assert pack(np.array(numbers, np.int64), bits).tolist() == [int(written[at : at + 8][::-1], 2) for at in range(0, len(written), 8)]


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9])
def test_negative_numbers_keep_their_lowest_bits(bits: int, count: int) -> None:
    low = -(1 << (bits - 1))
    numbers = low + np.arange(count, dtype=np.int16) % (1 << bits)
    assert np.array_equal(unpack(pack(numbers, bits), count, bits, signed=True), numbers)
