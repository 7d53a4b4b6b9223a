"""Weight files of a package, mapped: one record at an offset → its bytes.

Here: the storage format and staying inside the package. Not here: types and shapes of values (reader.py), writing (pipeline/coreml/weights.py).
Format (coremltools mlmodel/src/MILBlob/Blob/StorageFormat.hpp, version 2), little-endian, everything on 64-byte boundaries: a 64-byte header
`u32 count, u32 version`; per blob 64 bytes `u32 0xDEADBEEF, u32 dtype, u64 bytes, u64 offset of the data, u64 padding bits`, then the data.
"""

from __future__ import annotations

import mmap
import os
import stat
import struct
from pathlib import Path

from runtime.mil.program import DataType

PREFIX = "@model_path/"
MAX_FILES = 16
_ALIGNMENT, _VERSION, _SENTINEL = 64, 2, 0xDEADBEEF
_HEADER, _RECORD = struct.Struct("<II56x"), struct.Struct("<IIQQQ32x")
# The format's own numbers: MILBlob/Blob/BlobDataType.hpp.
BLOB_TYPES = {
    DataType.FLOAT16: 1, DataType.FLOAT32: 2, DataType.UINT8: 3, DataType.INT8: 4, DataType.BFLOAT16: 5, DataType.INT16: 6, DataType.UINT16: 7,
    DataType.INT4: 8, DataType.UINT1: 9, DataType.UINT2: 10, DataType.UINT4: 11, DataType.UINT3: 12, DataType.UINT6: 13, DataType.INT32: 14,
    DataType.UINT32: 15, DataType.FLOAT8E4M3FN: 16, DataType.FLOAT8E5M2: 17,
}  # fmt: skip


class BlobError(ValueError):
    """(place, expected, found) of a reference that leads to no blob."""

    def __init__(self, where: str, expected: str, found: object) -> None:
        super().__init__(where, expected, found)
        self.where, self.expected, self.found = where, expected, str(found)


class BlobStore:
    """The weight files below the folder of a model file, each opened once. Blobs are views: they keep their file mapped."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, memoryview] = {}

    def blob(self, file: str, offset: int, dtype: DataType, count: int) -> memoryview:
        """The bytes of `count` elements whose record stands at `offset`. file: `@model_path/…` as values name it. Raises BlobError."""
        view = self._file(file)
        place = f"{file} byte {offset}"
        if offset % _ALIGNMENT or not 0 < offset <= len(view) - _RECORD.size:
            raise BlobError(place, f"a multiple of {_ALIGNMENT} inside the file of {len(view)} bytes", offset)
        sentinel, number, size, start, padding = _RECORD.unpack_from(view, offset)
        if sentinel != _SENTINEL:
            raise BlobError(place, "the record of a blob", bytes(view[offset : offset + 4]).hex())
        if number != BLOB_TYPES.get(dtype):
            raise BlobError(place, f"a blob of {dtype.mil}", f"type number {number}")
        if size != dtype.stored_bytes(count) or padding != (size * 8 - count * dtype.bits if dtype.is_sub_byte else 0):
            raise BlobError(place, f"{dtype.stored_bytes(count)} bytes for {count} elements of {dtype.mil}", f"{size} with {padding} bits of padding")
        if start % _ALIGNMENT or start < _HEADER.size or start + size > len(view):
            raise BlobError(place, f"data on a {_ALIGNMENT}-byte boundary inside the file of {len(view)} bytes", f"{size} bytes at {start}")
        return view[start : start + size]

    def _file(self, name: str) -> memoryview:
        if name not in self._files:
            parts = name.removeprefix(PREFIX).split("/")
            if not name.startswith(PREFIX) or any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts):
                raise BlobError(name[:200], f"a path `{PREFIX}…` inside the package", name[:200])
            if len(self._files) == MAX_FILES:
                raise BlobError(name[:200], f"at most {MAX_FILES} weight files", MAX_FILES + 1)
            view = memoryview(_mapped(self._folder, parts))
            version = _HEADER.unpack_from(view)[1] if len(view) >= _HEADER.size else None
            if version != _VERSION:
                raise BlobError(f"{name} byte 4", f"storage version {_VERSION}", version)
            self._files[name] = view
        return self._files[name]


def _mapped(folder: Path, parts: list[str]) -> mmap.mmap | bytes:
    """A regular file below `folder`, opened without following a link anywhere on the way. Raises BlobError."""
    place = "/".join(parts)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for index, part in enumerate(parts):
            # O_NONBLOCK: opening a named pipe must not wait for a writer
            flags = os.O_RDONLY | os.O_NOFOLLOW | (os.O_DIRECTORY if index < len(parts) - 1 else os.O_NONBLOCK)
            inner = os.open(part, flags, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BlobError(place, "a regular file", "another kind")
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) if status.st_size else b""
    except OSError as problem:
        raise BlobError(place, "a weight file of the package", problem.strerror) from problem
    finally:
        os.close(descriptor)
