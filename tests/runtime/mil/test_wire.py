"""The wire format byte by byte, by the rules of the published specification."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.mil.schema import SCHEMA
from runtime.mil.wire import MAX_DEPTH, Field, Message, WireError, decode

PLAIN = {
    "M": Message(
        {
            1: Field("unsigned", "varint"), 2: Field("signed", "int64"), 3: Field("small", "int32"), 4: Field("yes", "bool"),
            5: Field("text", "string"), 6: Field("ratio", "float"), 7: Field("exact", "double"), 8: Field("raw", "bytes"),
            9: Field("many", "int32", repeated=True), 10: Field("inner", "message", message="M"), 11: Field("one", "varint", choice="c"),
            12: Field("other", "varint", choice="c"), 13: Field("floats", "float", repeated=True),
        }
    ),
    "Open": Message({1: Field("text", "string")}, open=True),
}  # fmt: skip


def varint(value: int) -> bytes:
    """As the specification's own example writes it: seven bits at a time, the lowest first."""
    found = bytearray()
    while True:
        found.append(value & 127 | (128 if value > 127 else 0))
        value >>= 7
        if not value:
            return bytes(found)


def field(number: int, content: bytes | int) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content if isinstance(content, bytes) else varint(number << 3) + varint(content)


@settings(deadline=None)
@given(value=st.integers(0, (1 << 64) - 1))
def test_numbers_of_all_sizes(value: int) -> None:
    found = decode(PLAIN, "M", field(1, value) + field(2, value) + field(3, value) + field(4, value))
    signed = struct.unpack("<q", struct.pack("<Q", value))[0]
    small = struct.unpack("<i", struct.pack("<I", value & 0xFFFFFFFF))[0]
    assert found == {"unsigned": value, "signed": signed, "small": small, "yes": value != 0}


def test_texts_bytes_and_fixed_numbers() -> None:
    data = (
        field(5, "größe".encode()) + field(8, b"\0\xff") + varint(6 << 3 | 5) + struct.pack("<f", 1.5) + varint(7 << 3 | 1) + struct.pack("<d", 0.1)
    )
    assert decode(PLAIN, "M", data) == {"text": "größe", "raw": b"\0\xff", "ratio": 1.5, "exact": 0.1}


def test_lists_packed_or_not_are_one_list() -> None:
    data = field(9, 1) + field(9, varint(2) + varint(300)) + field(9, 4) + field(13, struct.pack("<2f", 1, 2))
    assert decode(PLAIN, "M", data) == {"many": [1, 2, 300, 4], "floats": [1.0, 2.0]}


def test_unknown_fields_are_skipped_where_a_message_is_open() -> None:
    data = field(99, b"later") + field(98, 7) + field(1, b"now")
    assert decode(PLAIN, "Open", data) == {"text": "now"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (field(99, 1), "not known"),
        (b"\x0a", "does not end"),
        (field(5, b"abc")[:-1], "beyond its message"),
        (varint(1 << 3) + b"\xff" * 10 + b"\x01", "does not end"),
        (varint(1 << 3) + b"\xff" * 9 + b"\x7f", "more than 64 bits"),
        (varint(5 << 3 | 2) + varint((1 << 31) - 1), "beyond its message"),
        (varint(1 << 3 | 3), "wire type 3"),
        (field(5, b"\xff"), "not UTF-8"),
        (field(1, 1) + field(1, 2), "`unsigned` twice"),
        (field(11, 1) + field(12, 2), "`other` beside `one`"),
        (field(1, b"1"), "with wire type 2"),
        (field(13, b"123"), "part of a number"),
        (varint(0) + varint(1), "field number 0"),
    ],
)
def test_what_is_no_message_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(WireError, match=message):
        decode(PLAIN, "M", data)


def test_depth_is_bounded() -> None:
    data = b""
    for _ in range(MAX_DEPTH * 3):
        data = field(10, data)
    with pytest.raises(WireError, match="levels"):
        decode(PLAIN, "M", data)


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        decode(SCHEMA, "Model", data)
    except WireError as problem:
        assert 0 <= problem.offset <= len(data)
