"""The blob file of an ML Program, `weights/weight.bin`: reading blobs by offset, writing new files of them.

Here: the storage format. Not here: what the blobs mean (merge.py rewrites the values that point at them).
Format (coremltools mlmodel/src/MILBlob/Blob/StorageFormat.hpp, version 2), all little-endian, everything on 64-byte boundaries: a 64-byte header
`u32 count, u32 version`; per blob 64 bytes `u32 0xDEADBEEF, u32 dtype, u64 bytes, u64 offset of the data, u64 padding bits`, then the data.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from interlock.errors import refuse

ALIGNMENT = 64
VERSION = 2
_SENTINEL = 0xDEADBEEF
_HEADER = struct.Struct("<II56x")
_RECORD = struct.Struct("<IIQQQ32x")
REMEDY = "convert again: the weights of this package are damaged"


def taken(size_bytes: int) -> int:
    """Bytes of a blob file that an array of this size takes: its record, its data, and zeros up to the next record."""
    return _RECORD.size + -(-size_bytes // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class Blob:
    """One array as stored. dtype: the format's own number; padding_bits: unused bits of the last byte of sub-byte types."""

    dtype: int
    padding_bits: int
    data: memoryview

    def key(self) -> tuple[int, int, int, bytes]:
        """Equal for blobs that can stand for each other."""
        return self.dtype, self.padding_bits, len(self.data), hashlib.sha256(self.data).digest()


class BlobFile:
    """A mapped `weight.bin`. Blobs are views into it."""

    def __init__(self, path: Path) -> None:
        """Raises ContractError if it is not a blob file of this version."""
        self._path = path
        with path.open("rb") as file:
            self._view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b"")
        version = _HEADER.unpack_from(self._view)[1] if len(self._view) >= _HEADER.size else None
        if version != VERSION:
            raise refuse(path, "byte 4", expected=f"storage version {VERSION}", found=version, remedy=REMEDY)

    def at(self, offset: int) -> Blob:
        """The blob whose record stands at `offset`. Raises ContractError if none does or its data leaves the file."""
        record = self._view[offset : offset + _RECORD.size]
        sentinel, dtype, size, start, padding = _RECORD.unpack(record) if len(record) == _RECORD.size else (0, 0, 0, 0, 0)
        if sentinel != _SENTINEL or start + size > len(self._view):
            raise refuse(self._path, f"byte {offset}", expected="the record of a blob inside the file", found=bytes(record[:32]).hex(), remedy=REMEDY)
        return Blob(dtype, padding, self._view[start : start + size])


class BlobWriter:
    """Writes a blob file; equal blobs are stored once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._offsets: dict[tuple[int, int, int, bytes], int] = {}
        file.write(_HEADER.pack(0, VERSION))

    def add(self, blob: Blob) -> int:
        """The offset of the blob's record, written now or before."""
        key = blob.key()
        if key not in self._offsets:
            self._file.write(bytes(-self._file.tell() % ALIGNMENT))  # nothing follows the last blob: coremltools ends the file there
            offset = self._file.tell()
            self._offsets[key] = offset
            self._file.write(_RECORD.pack(_SENTINEL, blob.dtype, len(blob.data), offset + _RECORD.size, blob.padding_bits))
            self._file.write(blob.data)
        return self._offsets[key]

    def close(self) -> None:
        """Write the number of blobs into the header."""
        self._file.seek(0)
        self._file.write(_HEADER.pack(len(self._offsets), VERSION))
