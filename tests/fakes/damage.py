"""Where an artifact can be damaged: every class of offset of its files, and what happens there.

Here: places and the bytes that they get. Not here: whether anybody notices (tests/reliability/test_corruption.py). Each format is read here from its
published description, not by the readers under test: safetensors (8 bytes of length, JSON, data), zip (PKWARE APPNOTE 4.3), Core ML's weight file
(MILBlob/Blob/StorageFormat.hpp: a header of 64 bytes, then for each blob 64 bytes of metadata and its data, aligned to 64), JSON.
"""

from __future__ import annotations

import json
import re
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*|true|false|null|[\[\]{}:,]|\s+')
_FIELD = '"-0123456789tfn'
_BLOB = struct.pack("<I", 0xDEADBEEF)


@dataclass(frozen=True)
class Damage:
    """One change of one file. `place` is a class of offset and what is there. `size` None flips the bits of `mask` in the byte at `offset`; otherwise
    the file is cut, or extended by zeros, to `size`."""

    file: str
    place: str
    offset: int = 0
    mask: int = 1
    size: int | None = None

    @property
    def offset_class(self) -> str:
        return self.place.partition(":")[0]

    def of(self, whole: bytes) -> bytes:
        if self.size is not None:
            return whole[: self.size] + bytes(max(0, self.size - len(whole)))
        return whole[: self.offset] + bytes([whole[self.offset] ^ self.mask]) + whole[self.offset + 1 :]


def damages(directory: Path, masks: tuple[int, ...] = (1,)) -> Iterator[Damage]:
    """Every damage to every file of an artifact directory, contracts and parts included."""
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            name, whole = path.relative_to(directory).as_posix(), path.read_bytes()
            places = {place: offset for place, offset in (*_ends(whole), *_places(path, whole)) if offset < len(whole)}
            yield from (Damage(name, place, offset, mask) for mask in masks for place, offset in places.items())
            sizes = {0, 1, len(whole) - 1, len(whole) + 1, len(whole) + 4096, *list(places.values())[::7]} - {len(whole)}
            yield from (
                Damage(name, f"{'cut' if size < len(whole) else 'extended'}: {size} bytes of {len(whole)}", size=size) for size in sorted(sizes)
            )


def _ends(whole: bytes) -> Iterator[tuple[str, int]]:
    """A file of any format."""
    yield from ((f"part: {number} eighths", min(number * len(whole) // 8, len(whole) - 1)) for number in range(9))


def _places(path: Path, whole: bytes) -> Iterator[tuple[str, int]]:
    if path.suffix == ".safetensors":
        yield from _safetensors(whole)
    elif zipfile.is_zipfile(path):
        yield from _zip(path, whole)
    elif path.name == "weight.bin":
        yield from _blobs(whole)
    elif path.suffix in (".json", ".jsonl"):
        yield from _json(whole.decode())
    else:
        yield from ((f"byte: {offset}", offset) for offset in range(0, len(whole), max(1, len(whole) // 64)))


def _span(name: str, begin: int, end: int) -> Iterator[tuple[str, int]]:
    """First, middle and last byte."""
    yield from ((f"{name}, {where} byte", at) for where, at in (("first", begin), ("middle", (begin + end) // 2), ("last", end - 1)) if begin < end)


def _safetensors(whole: bytes) -> Iterator[tuple[str, int]]:
    (length,) = struct.unpack_from("<Q", whole)
    yield from ((f"length field: byte {number}", number) for number in range(8))
    header = whole[8 : 8 + length]
    for name, entry in json.loads(header).items():
        at = header.index(json.dumps(name).encode())
        yield from _span(f"index: {name}", 8 + at, 8 + header.index(b"}", at))
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            yield from _span(f"tensor: {name}", 8 + length + begin, 8 + length + end)
    yield from _span("padding: of the header", 8 + len(header.rstrip(b" ")), 8 + length)


def _zip(path: Path, whole: bytes) -> Iterator[tuple[str, int]]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            at = info.header_offset
            names, extra = struct.unpack_from("<HH", whole, at + 26)
            data = at + 30 + names + extra
            yield from _span(f"header: of {info.filename}", at, at + 30 + names)
            yield from _span(f"padding: before {info.filename}", at + 30 + names, data)
            yield from _span(f"tensor: {info.filename}", data, data + info.compress_size)
        end = whole.rindex(b"PK\x05\x06")
        yield from _span("index: central directory", archive.start_dir, end)
        yield from _span("trailer: end of central directory", end, len(whole))


def _blobs(whole: bytes) -> Iterator[tuple[str, int]]:
    yield from ((f"header: byte {number}", number) for number in range(0, 64, 4))
    for at in range(64, len(whole) - 63, 64):
        if whole[at : at + 4] == _BLOB:
            size, begin = struct.unpack_from("<QQ", whole, at + 8)
            fields = {"mark": 0, "type": 4, "size": 8, "offset": 16, "reserved": 40}
            yield from ((f"index: {name} of the blob at {at}", at + skip) for name, skip in fields.items())
            yield from _span(f"tensor: the blob at {at}", begin, begin + size)
            yield from _span(f"padding: after the blob at {at}", begin + size, min(-(-(begin + size) // 64) * 64, len(whole)))


def _json(text: str) -> Iterator[tuple[str, int]]:
    """Every key and value, and what stands between them."""
    offset = 0
    for number, token in enumerate(_TOKEN.findall(text)):
        size = len(token.encode())
        offset_class = "field" if token[0] in _FIELD else "layout"
        yield f"{offset_class}: token {number} {token.strip()[:24]}", offset + size // 2
        offset += size
