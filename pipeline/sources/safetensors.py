"""The header of a safetensors file, checked by us before the library sees a byte.

Here: the container's rules. Not here: which tensors a model needs (huggingface.py), their numbers (the `safetensors` library reads them).
Format: safetensors README, "Format": 8 bytes of header length, a JSON object, the data. Stricter than the library where it is lenient or
slow: fewer bytes of header, no duplicate keys, no padding but spaces.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from interlock.contracts.strict import parse_json
from interlock.errors import ContractError, refuse
from pipeline.sources.proofs import REMEDY, map_file, shown

MAX_HEADER = 8 << 20  # the library allows 100 MB; 65,536 tensors of long names fit in 8
MAX_TENSORS = 1 << 16
MAX_METADATA = 1 << 20  # characters of all `__metadata__` strings
MAX_DIMS = 8
MAX_NAME = 512

# Bytes per element.
DTYPES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip


@dataclass(frozen=True)
class TensorEntry:
    """One tensor: `begin` and `end` are byte offsets into the data that follows the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def check_header(path: Path) -> Mapping[str, TensorEntry]:
    """The tensors of a safetensors file, by name. Raises ContractError unless they cover the data exactly: no overlap, gap or trailing byte."""
    with map_file(path) as mapped:
        if len(mapped) < 8:
            raise _bad(path, "header length", "8 bytes", f"{len(mapped)}")
        (length,) = struct.unpack_from("<Q", mapped)
        if length > min(len(mapped) - 8, MAX_HEADER):
            raise _bad(path, "header length", f"at most {min(len(mapped) - 8, MAX_HEADER)} bytes", f"{length}")
        raw = mapped[8 : 8 + length]
        size = len(mapped) - 8 - length
    if not raw.startswith(b"{"):
        raise _bad(path, "header", "`{` as its first byte", shown(raw[:8]))
    # Each object costs 60 times its two bytes: the parser must not build millions of them.
    if raw.count(b"{") + raw.count(b"[") > 3 * MAX_TENSORS + 2:
        raise _bad(path, "header", f"at most {MAX_TENSORS} tensors", "more brackets than they need")
    document = parse_json(raw, f"{path} (header)", limit=MAX_HEADER, values=10 * MAX_TENSORS, remedy=REMEDY)
    _check_metadata(path, document.pop("__metadata__", {}))
    if len(document) > MAX_TENSORS:
        raise _bad(path, "header", f"at most {MAX_TENSORS} tensors", f"{len(document)}")
    entries = {name: _entry(path, name, value) for name, value in document.items()}
    _check_cover(path, entries, size)
    return entries


def _check_metadata(path: Path, metadata: object) -> None:
    if not isinstance(metadata, dict) or any(not isinstance(value, str) for value in metadata.values()):
        raise _bad(path, "__metadata__", "an object of strings", shown(metadata))
    if sum(len(key) + len(value) for key, value in metadata.items()) > MAX_METADATA:
        raise _bad(path, "__metadata__", f"at most {MAX_METADATA} characters", "more")


def _entry(path: Path, name: str, value: object) -> TensorEntry:
    if not 0 < len(name) <= MAX_NAME:
        raise _bad(path, shown(name), f"a name of 1 to {MAX_NAME} characters", f"{len(name)}")
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise _bad(path, shown(name), "an object of `dtype`, `shape` and `data_offsets`", shown(value))
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise _bad(path, f"{shown(name)}/dtype", "one of " + ", ".join(DTYPES), shown(dtype))
    if not _are_sizes(shape) or len(shape) > MAX_DIMS:
        raise _bad(path, f"{shown(name)}/shape", f"at most {MAX_DIMS} integers of 0 or more", shown(shape))
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _bad(path, f"{shown(name)}/data_offsets", "begin and end, begin not after end", shown(offsets))
    begin, end = offsets
    if math.prod(shape) * DTYPES[dtype] != end - begin:
        raise _bad(path, shown(name), f"{math.prod(shape) * DTYPES[dtype]} bytes for {dtype} {shape}", f"{end - begin}")
    return TensorEntry(dtype, tuple(shape), begin, end)


def _are_sizes(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _check_cover(path: Path, entries: Mapping[str, TensorEntry], size: int) -> None:
    covered = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != covered:
            raise _bad(path, f"{shown(name)}/data_offsets", f"begin {covered}, where the previous tensor ends", f"{entry.begin}")
        covered = entry.end
    if covered != size:
        raise _bad(path, "data", f"{covered} bytes, as the tensors say", f"{size} bytes")


def _bad(path: Path, where: str, expected: str, found: str) -> ContractError:
    return refuse(path, where, expected=expected, found=found, remedy=REMEDY)
