"""Event files, read by protobuf's own decoder under TensorFlow's schema, in records framed as TFRecord says."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.reports import tensorboard
from pipeline.reports.recorded import EventFiles
from pipeline.training.told import Line

# protobuf comes with coremltools.
pytestmark = pytest.mark.export


def event_class() -> Any:
    """`Event`, `Summary` and `Value` of tensorflow/core, those fields that we write, by their published numbers and types."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="event.proto", package="t", syntax="proto3")
    types = {"double": 1, "float": 2, "int64": 3, "string": 9, "message": 11}
    schema = {
        "Value": [("tag", 1, "string", ""), ("simple_value", 2, "float", "")],
        "Summary": [("value", 1, "message", ".t.Value")],
        "Event": [
            ("wall_time", 1, "double", ""),
            ("step", 2, "int64", ""),
            ("file_version", 3, "string", ""),
            ("summary", 5, "message", ".t.Summary"),
        ],
    }
    for name, fields in schema.items():
        made = file.message_type.add(name=name)
        for field, number, kind, of in fields:
            made.field.add(name=field, number=number, type=types[kind], type_name=of or None, label=3 if field == "value" else 1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Event"))


def crc32c(data: bytes) -> int:
    """Bit by bit, from the polynomial: not the code under test's table."""
    crc = 0xFFFFFFFF
    for byte in data:
        for bit in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if (crc ^ byte >> bit) & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32


def records(file: Path) -> Iterator[bytes]:
    data = file.read_bytes()
    while data:
        (length,), (check,) = struct.unpack("<Q", data[:8]), struct.unpack("<I", data[8:12])
        body, (end,) = data[12 : 12 + length], struct.unpack("<I", data[12 + length : 16 + length])
        assert check == masked(data[:8]) and end == masked(body)
        yield body
        data = data[16 + length :]


def line(step: int, **more: Any) -> Line:
    return Line(**{"step": step, "lr": 1e-3, "replaced": 2, "total": 3.5, "norm": 0.5, "losses": {"ce": 1.25, "step": 4.5}} | more)


def test_checksums_are_those_of_the_standard() -> None:
    """RFC 3720, appendix B.4, and the check value of CRC-32C."""
    assert tensorboard.crc32c(b"123456789") == crc32c(b"123456789") == 0xE3069283
    assert tensorboard.crc32c(bytes(32)) == 0x8A9136AA and tensorboard.crc32c(b"\xff" * 32) == 0x62A8AB43


def test_a_reader_finds_every_scalar_at_its_step(tmp_path: Path) -> None:
    files = EventFiles(tmp_path)
    files.add("student", [line(1), line(300, validation=1.5, by_slots={"0": 1.0, "1": 2.0}, accuracy={"spans": {"1": 0.75}})], 1000.5)
    files.add("pause", [line(7)], 1001.0)
    files.add("student", [line(1 << 40)], 1002.25)
    files.close()
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["pause", "student"]
    (file,) = (tmp_path / "student").iterdir()
    assert file.name.startswith("events.out.tfevents.")
    events = [event_class().FromString(record) for record in records(file)]
    assert events[0].file_version == "brain.Event:2" and events[0].wall_time == 1000.5
    assert [(event.step, event.wall_time) for event in events[1:]] == [(1, 1000.5), (300, 1000.5), (1 << 40, 1002.25)]
    found = {value.tag: value.simple_value for value in events[2].summary.value}
    assert found == {
        "loss/total": 3.5, "loss/ce": 1.25, "loss/step": 4.5, "gradient norm": 0.5, "learning rate": pytest.approx(1e-3), "steps in slots": 2.0,
        "validation/mean": 1.5, "validation/0 slots": 1.0, "validation/1 slots": 2.0, "accuracy spans/1 steps": 0.75,
    }  # fmt: skip
    assert len(events[1].summary.value) == 6


def test_a_run_that_goes_on_has_a_file_after_the_first(tmp_path: Path) -> None:
    """A reader takes the files of a folder in the order of their names."""
    for unix_s in (999_999_999.5, 1_000_000_000.25):
        files = EventFiles(tmp_path)
        files.add("student", [line(1)], unix_s)
        files.close()
    times = [event_class().FromString(next(records(file))).wall_time for file in sorted((tmp_path / "student").iterdir())]
    assert times == [999_999_999.5, 1_000_000_000.25]
