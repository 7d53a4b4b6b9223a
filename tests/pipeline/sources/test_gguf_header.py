"""A GGUF header that lies in any field is refused, at once and with the field's name; a sound one is read as the published reader reads it."""

from __future__ import annotations

import resource
import struct
import time
from pathlib import Path

import pytest
from fakes import foreign_files as make
from fakes.smollm2 import smollm2_path
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interlock.errors import ContractError
from pipeline.sources.gguf_header import BLOCKS, read_header

HUGE = 1 << 63
U32 = struct.Struct("<I").pack
U64 = struct.Struct("<Q").pack
KEY = make.pair("k", make.UINT32, U32(1))
F32 = 0
ROW = make.info("t", [4], F32, 0)
DATA = bytes(16)


def array(kind: int, count: int, body: bytes = b"") -> bytes:
    return U32(kind) + U64(count) + body


def one(value: bytes, kind: int = make.ARRAY) -> bytes:
    """A file with one pair."""
    return make.gguf([make.pair("k", kind, value)])


def of(info: bytes, data: bytes = DATA, *pairs: bytes) -> bytes:
    """A file with one tensor."""
    return make.gguf(pairs, [info], data)


def aligned(value: int, kind: int = make.UINT32) -> bytes:
    return make.gguf([make.pair("general.alignment", kind, U32(value) if kind == make.UINT32 else struct.pack("<f", value))], [ROW], DATA)


SOUND = make.gguf([KEY, make.pair("s", make.STRING, make.text("é")), make.pair("a", make.ARRAY, array(make.BOOL, 2, b"\1\0"))], [ROW], DATA)

HOSTILE = {
    "empty": b"",
    "no magic": b"GGML" + SOUND[4:],
    "magic only": b"GGUF",
    "version 1": make.gguf([KEY], version=1),
    "version 4": make.gguf([KEY], version=4),
    "big-endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "kv_count 2^63": make.gguf([KEY], counts=(0, HUGE)),
    "kv_count one more": make.gguf([KEY], counts=(0, 4)),
    "kv_count over the limit": make.gguf([make.pair(f"k{i}", make.UINT32, U32(1)) for i in range(4097)]),
    "tensor_count 2^63": make.gguf([KEY], counts=(HUGE, 1)),
    "tensor_count beyond the file": make.gguf([KEY], counts=(9, 1)),
    "49 bytes that hang the library": b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + make.text("k") + U32(9) + U32(0) + U64(HUGE),
    "key length 2^63": make.gguf([U64(HUGE) + b"k"]),
    "key length beyond the file": make.gguf([U64(1000) + b"k" * 20]),
    "key of 300 bytes": make.gguf([make.pair("k" * 300, make.UINT32, U32(1))]),
    "key not UTF-8": make.gguf([make.pair(b"\xff\xfe", make.UINT32, U32(1))]),
    "key with escapes, twice": make.gguf([make.pair("\x1b[2J", make.UINT32, U32(1))] * 2),
    "key twice": make.gguf([KEY, KEY]),
    "value type 13": one(U32(1), 13),
    "value type 2^32-1": one(U32(1), (1 << 32) - 1),
    "value cut off": make.gguf([KEY])[:35],
    "string length 2^63": one(U64(HUGE), make.STRING),
    "string length 2^64-1": one(U64((1 << 64) - 1), make.STRING),
    "string beyond the file": one(U64(4000) + b"x", make.STRING),
    "string not UTF-8": one(make.text(b"\xc3\x28"), make.STRING),
    "string a surrogate": one(make.text(b"\xed\xa0\x80"), make.STRING),
    "boolean 2": one(b"\2", make.BOOL),
    "array length 2^63": one(array(make.UINT32, HUGE)),
    "array length 2^62 of 4 bytes": one(array(make.UINT32, 1 << 62)),
    "array beyond the file": one(array(make.UINT64, 1000, bytes(80))),
    "array of arrays": one(array(make.ARRAY, 1, array(make.UINT32, 0))),
    "array nested 1000 times": one(array(make.ARRAY, 1) * 1000),
    "array of unknown type": one(array(99, 1, bytes(8))),
    "array of strings, length 2^61": one(array(make.STRING, 1 << 61)),
    "array of strings, one cut off": one(array(make.STRING, 2, make.text("a"))),
    "array of booleans of 7": one(array(make.BOOL, 1, b"\7")),
    "array of three million items": one(array(make.BOOL, 3_000_000, bytes(3_000_000))),
    "n_dims 0": of(make.info("t", [], F32, 0)),
    "n_dims 5": of(make.info("t", [1] * 5, F32, 0)),
    "n_dims 2^32-1": of(make.info("t", [4], F32, 0, n_dims=(1 << 32) - 1)),
    "dim 0": of(make.info("t", [4, 0], F32, 0)),
    "dim 2^63": of(make.info("t", [HUGE], F32, 0)),
    "product wraps to 0": of(make.info("t", [1 << 32, 1 << 32], F32, 0)),
    "product wraps to 4": of(make.info("t", [4, (1 << 62) + 1], F32, 0)),
    "bytes beyond the file": of(make.info("t", [5], F32, 0)),
    "block type 4 (removed)": of(make.info("t", [32], 4, 0)),
    "block type of integers": of(make.info("t", [4], 24, 0)),
    "block type 2^32-1": of(make.info("t", [4], (1 << 32) - 1, 0)),
    "row of half a block": of(make.info("t", [16], 2, 0)),
    "offset 1": of(make.info("t", [4], F32, 1)),
    "offset beyond the file": of(make.info("t", [4], F32, 1 << 20)),
    "offset 2^64-32": of(make.info("t", [4], F32, (1 << 64) - 32)),
    "tensors overlap": make.gguf([], [make.info("a", [4], F32, 0), make.info("b", [4], F32, 0)], bytes(48)),
    "gap between tensors": make.gguf([], [make.info("a", [4], F32, 0), make.info("b", [4], F32, 64)], bytes(80)),
    "tensor name twice": make.gguf([], [ROW, make.info("t", [4], F32, 32)], bytes(48)),
    "tensor name of 65 bytes": of(make.info("t" * 65, [4], F32, 0)),
    "no data": of(ROW, b""),
    "trailing data": of(ROW, bytes(48)),
    "zip after the end": SOUND + b"PK\x05\x06" + bytes(28),
    "alignment 0": aligned(0),
    "alignment 1": aligned(1),
    "alignment 3": aligned(3),
    "alignment 2^30": aligned(1 << 30),
    "alignment a float": aligned(32, make.FLOAT32),
    "alignment a string": make.gguf([make.pair("general.alignment", make.STRING, make.text("32"))], [ROW], DATA),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_refuses_a_header_that_lies(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(HOSTILE[name])
    begun = time.process_time()
    with pytest.raises(ContractError) as caught:
        read_header(path)
    assert time.process_time() - begun < 1
    assert caught.value.exit_code == 3 and str(path) in caught.value.lines()[0] and caught.value.remedy
    assert all(line.isprintable() for line in caught.value.lines())


def test_reads_a_sound_header(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(SOUND)
    header = read_header(path)
    assert dict(header.metadata) == {"k": 1, "s": "é", "a": (True, False)}
    assert header.tensors["t"].shape == (4,) and header.tensors["t"].begin == len(SOUND) - 16


def test_a_hostile_count_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(HOSTILE["49 bytes that hang the library"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ContractError):
        read_header(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 << 10  # KiB


@pytest.mark.parametrize("kind", ["directory", "fifo", "missing", "device"])
def test_only_a_regular_file_is_opened(tmp_path: Path, kind: str) -> None:
    import os

    path = Path("/dev/zero") if kind == "device" else tmp_path / "x"
    if kind == "directory":
        path.mkdir()
    if kind == "fifo":
        os.mkfifo(path)
    with pytest.raises(ContractError, match="regular file"):
        read_header(path)


@settings(max_examples=300, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), max_size=4), st.integers(0, len(SOUND)))
def test_damaged_bytes_are_read_or_refused_never_more(tmp_path: Path, flips: list[tuple[int, int]], stop: int) -> None:
    raw = bytearray(SOUND)
    for at, value in flips:
        raw[at] = value
    path = tmp_path / "model.gguf"
    path.write_bytes(raw[:stop] if stop % 3 == 0 else raw)
    try:
        header = read_header(path)
    except ContractError:
        return
    assert all(info.begin + info.size_bytes <= len(raw) for info in header.tensors.values())


@pytest.mark.train
def test_reads_the_real_file_as_the_library_does() -> None:
    import gguf

    reader, header = gguf.GGUFReader(smollm2_path()), read_header(smollm2_path())
    published = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    assert {key: list(value) if isinstance(value, tuple) else value for key, value in header.metadata.items()} == published
    assert {name: (info.kind, info.shape[::-1], info.begin, info.size_bytes) for name, info in header.tensors.items()} == {
        tensor.name: (tensor.tensor_type, tuple(tensor.shape), tensor.data_offset, tensor.n_bytes) for tensor in reader.tensors
    }


@pytest.mark.train
def test_block_sizes_are_those_of_the_library() -> None:
    import gguf

    for kind, (name, elements, width) in BLOCKS.items():
        assert gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)] == (elements, width)
        assert gguf.GGMLQuantizationType(kind).name == name
