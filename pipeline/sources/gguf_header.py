"""The header of a GGUF file, by our own bounded reader.

Here: every count, length and offset checked against the bytes that are left, before anything is allocated. Not here: what the keys mean
(gguf.py, tokenizer.py). The `gguf` library's reader is not used: a 49-byte file hangs it (0.19.0; ggml-org/llama.cpp#27188).
Format: ggml docs/gguf.md. The tensors' layout is held to the loader's rule (ggml gguf.cpp): one after the other, padded to the alignment.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from interlock.errors import ContractError, refuse
from pipeline.sources.proofs import REMEDY, map_file, shown

MAX_KEYS = 1 << 12
MAX_TENSORS = 1 << 16
MAX_ITEMS = 1 << 21  # array items in the whole file; the largest vocabularies need 1.3 million (tokens, scores, types, merges)
MAX_TEXT = 1 << 27  # bytes of all strings together
MAX_KEY = 256
MAX_NAME = 64  # GGML_MAX_NAME
MAX_DIMS = 4  # GGML_MAX_DIMS
DEFAULT_ALIGNMENT = 32

# Value types by id: struct code. 7 is bool, 8 string, 9 array.
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 10: "Q", 11: "q", 12: "d"}
BOOL, STRING, ARRAY = 7, 8, 9

# Block types that hold real numbers and that `gguf.quants` decodes: id -> (name, elements per block, bytes per block). Source: ggml.h, ggml-common.h.
BLOCKS = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of the file. `shape`: rows first, as torch has it; `begin`: absolute byte offset; `size_bytes`: without padding."""

    kind: int
    shape: tuple[int, ...]
    begin: int
    size_bytes: int


@dataclass(frozen=True)
class GgufHeader:
    """A proven header. Metadata values are int, float, bool, str or tuples of them; `data_offset` is where the tensors begin."""

    metadata: Mapping[str, object]
    tensors: Mapping[str, TensorInfo]
    data_offset: int


def read_header(path: Path) -> GgufHeader:
    """The header of a GGUF file (version 2 or 3, little-endian). Raises ContractError at the first impossible field."""
    with map_file(path) as mapped:
        return parse_header(path, mapped)


def parse_header(path: Path, mapped: mmap.mmap) -> GgufHeader:
    """As `read_header`, from bytes that the caller keeps: what was proven is then what is read. `path` is for messages."""
    return _Reader(path, mapped).header()


class _Reader:
    """A cursor over the mapped file; `at` is the offset of the next byte. Budgets are for the whole file."""

    def __init__(self, path: Path, mapped: mmap.mmap) -> None:
        self.path, self.mapped, self.end = path, mapped, len(mapped)
        self.at, self.items, self.text = 0, 0, 0

    def header(self) -> GgufHeader:
        if self.mapped[:4] != b"GGUF":
            raise self._bad("magic", "`GGUF`", shown(self.mapped[:4]))
        self.at = 4
        version = self._number("I", "version")
        if version not in (2, 3):  # a big-endian file shows 3 as 0x03000000
            raise self._bad("version", "2 or 3, little-endian", version)
        tensors = self._count("tensor_count", MAX_TENSORS, smallest=8 + 4 + 8 + 4 + 8)
        keys = self._count("kv_count", MAX_KEYS, smallest=8 + 4 + 1)
        metadata: dict[str, object] = {}
        for i in range(keys):
            key = self._string(f"kv {i}", MAX_KEY)
            where = shown(key)
            if key in metadata:
                raise self._bad(where, "each key once", "the key twice")
            metadata[key] = self._value(where, self._number("I", where))
        return self._layout(metadata, [self._info(i) for i in range(tensors)])

    def _layout(self, metadata: Mapping[str, object], infos: list[tuple[str, int, tuple[int, ...], int]]) -> GgufHeader:
        """Offsets relative to the padded end of the header become absolute, held to exactly one tensor after the other."""
        alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or isinstance(alignment, bool) or not 8 <= alignment <= 1 << 16 or alignment & (alignment - 1):
            raise self._bad("general.alignment", "a power of two from 8 to 65536", shown(alignment))
        start = self.at = -(-self.at // alignment) * alignment
        tensors: dict[str, TensorInfo] = {}
        for name, kind, shape, offset in infos:
            if name in tensors:
                raise self._bad(shown(name), "each tensor once", "the name twice")
            if offset != self.at - start:
                raise self._bad(shown(name), f"offset {self.at - start}: tensors follow each other, aligned to {alignment}", f"offset {offset}")
            _, elements, width = BLOCKS[kind]
            size = math.prod(shape) // elements * width
            if size > self.end - self.at:
                raise self._bad(shown(name), f"at most {self.end - self.at} bytes, to the end of the file", f"{size} bytes")
            tensors[name] = TensorInfo(kind, shape, self.at, size)
            self.at = -(-(self.at + size) // alignment) * alignment
        if self.end > max(self.at, start):
            raise self._bad("data", f"the end of the file at byte {self.at}", f"{self.end - self.at} bytes after the last tensor")
        return GgufHeader(MappingProxyType(metadata), MappingProxyType(tensors), start)

    def _info(self, index: int) -> tuple[str, int, tuple[int, ...], int]:
        name = self._string(f"tensor {index}", MAX_NAME)
        n_dims = self._number("I", shown(name))
        if not 1 <= n_dims <= MAX_DIMS:
            raise self._bad(shown(name), f"1 to {MAX_DIMS} dimensions", n_dims)
        shape = tuple(self._number("Q", shown(name)) for _ in range(n_dims))[::-1]  # ne[0] of ggml runs fastest
        kind = self._number("I", shown(name))
        offset = self._number("Q", shown(name))
        if kind not in BLOCKS:
            raise self._bad(shown(name), "a block type of real numbers: " + ", ".join(known for known, _, _ in BLOCKS.values()), f"type {kind}")
        if min(shape) < 1 or math.prod(shape) >= 1 << 63:
            raise self._bad(shown(name), "dimensions of at least 1, fewer than 2^63 elements", list(shape))
        if shape[-1] % BLOCKS[kind][1]:
            raise self._bad(shown(name), f"rows of whole {BLOCKS[kind][0]} blocks of {BLOCKS[kind][1]}", f"rows of {shape[-1]}")
        return name, kind, shape, offset

    def _value(self, where: str, kind: int) -> object:
        if kind != ARRAY:
            return self._values(where, kind, 1)[0]
        item_kind = self._number("I", where)
        if item_kind == ARRAY:
            raise self._bad(where, "an array of plain values", "an array of arrays")
        smallest = 8 if item_kind == STRING else 1 if item_kind == BOOL else struct.calcsize("<" + SCALARS.get(item_kind, "B"))
        count = self._count(where, MAX_ITEMS - self.items, smallest=smallest)
        self.items += count
        return self._values(where, item_kind, count)

    def _values(self, where: str, kind: int, count: int) -> tuple[object, ...]:
        if kind == STRING:
            return tuple(self._string(where, MAX_TEXT) for _ in range(count))
        if kind == BOOL:
            flags = self._take("B", count, where)
            if any(flag > 1 for flag in flags):
                raise self._bad(where, "booleans of 0 or 1", f"{max(flags)}")
            return tuple(bool(flag) for flag in flags)
        if kind not in SCALARS:
            raise self._bad(where, "a value type from 0 to 12", f"type {kind}")
        return self._take(SCALARS[kind], count, where)

    def _string(self, where: str, limit: int) -> str:
        length = self._number("Q", where)
        if length > min(limit, self.end - self.at, MAX_TEXT - self.text):
            raise self._bad(where, f"a string of at most {min(limit, self.end - self.at, MAX_TEXT - self.text)} bytes", f"{length} bytes")
        raw = self.mapped[self.at : self.at + length]
        self.at += length
        self.text += length
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise self._bad(where, "UTF-8", shown(raw)) from None

    def _count(self, where: str, limit: int, *, smallest: int) -> int:
        """A count of things that take at least `smallest` bytes each."""
        count = self._number("Q", where)
        most = min(limit, (self.end - self.at) // smallest)
        if count > most:
            raise self._bad(where, f"at most {most} (bytes left in the file, limits of this reader)", count)
        return count

    def _number(self, code: str, where: str) -> int:
        value: int = self._take(code, 1, where)[0]
        return value

    def _take(self, code: str, count: int, where: str) -> tuple[int, ...]:
        layout = f"<{count}{code}"
        size = struct.calcsize(layout)
        if size > self.end - self.at:
            raise self._bad(where, f"{size} more bytes", f"{self.end - self.at} left in the file")
        values = struct.unpack_from(layout, self.mapped, self.at)
        self.at += size
        return values

    def _bad(self, where: str, expected: str, found: object) -> ContractError:
        return refuse(self.path, f"{where} (before byte {self.at})", expected=expected, found=found, remedy=REMEDY)
