"""A training's figures as TensorBoard event files, one folder per run.

Here: the format, and which scalars there are. Not here: when (recorded.py).
Written by hand, because the driver's interpreter has neither a tensor library nor protobuf, and a scalar needs four fields. Formats: records as
TFRecord (tensorflow/core/lib/io/record_writer.h: length, its masked CRC-32C, data, its masked CRC-32C), each an `Event` of
tensorflow/core/util/event.proto in protobuf's wire encoding.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from pipeline.training.told import Line

VERSION = b"brain.Event:2"
# A reader takes files whose names contain this.
NAME = "events.out.tfevents"


def begin(wall_time: float) -> bytes:
    """The record that stands first in every file. wall_time: seconds since 1970."""
    return _record(struct.pack("<Bd", 0x09, wall_time) + _bytes(3, VERSION))


def step(line: Line, wall_time: float) -> bytes:
    """The record of one line of a log."""
    values = b"".join(_bytes(1, _bytes(1, tag.encode()) + struct.pack("<Bf", 0x15, value)) for tag, value in scalars(line).items())
    return _record(struct.pack("<Bd", 0x09, wall_time) + b"\x10" + _varint(line.step) + _bytes(5, values))


def scalars(line: Line) -> Mapping[str, float]:
    """Every figure of a line, by its tag: those before the first `/` share a panel."""
    return dict(_scalars(line))


def _scalars(line: Line) -> Iterator[tuple[str, float]]:
    yield from {"loss/total": line.total, "gradient norm": line.norm, "learning rate": line.lr, "steps in slots": float(line.replaced)}.items()
    yield from ((f"loss/{name}", loss) for name, loss in line.losses.items())
    if line.validation is not None:
        yield "validation/mean", line.validation
        yield from ((f"validation/{slots} slots", loss) for slots, loss in line.by_slots.items())
    for way, shares in line.accuracy.items():
        yield from ((f"accuracy {way}/{depth} steps", share) for depth, share in shares.items())


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", _masked(length)) + data + struct.pack("<I", _masked(data))


def _masked(data: bytes) -> int:
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), reflected: RFC 3720, appendix B.4 has test vectors."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _entry(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value


_TABLE = [_entry(value) for value in range(256)]


def _bytes(field: int, data: bytes) -> bytes:
    """A field of wire type 2."""
    return bytes([field << 3 | 2]) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])
