"""The tensors of a file as arrays mapped from it: nothing is read before it is used, and no torch is imported.

Here: safetensors files, and the parameters in an exported TorchScript file. Not here: what an architecture needs (runtime/student/fit.py), running
such a file (torchscript_file.py). bf16 stands as uint16, as in runtime/kernels/products.py.
The caller has compared the file's digest with a contract that it trusts; still no file decides what is called, or names a place outside itself.
"""

from __future__ import annotations

import json
import math
import mmap
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np

from interlock.contracts.io import open_regular
from interlock.errors import ContractError, refuse
from runtime.kernels.products import BRAIN, Array

# By safetensors' names and by those of torch's storages.
SAFETENSORS: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": BRAIN}
STORAGES: dict[str, np.dtype[Any]] = {"FloatStorage": np.dtype("<f4"), "HalfStorage": np.dtype("<f2"), "BFloat16Storage": BRAIN}
NAMES: dict[np.dtype[Any], str] = {np.dtype("<f4"): "float32", np.dtype("<f2"): "float16", BRAIN: "bfloat16"}
# A header of a thousand layers has 2 MB; safetensors itself refuses more than this.
HEADER_BYTES = 100 << 20


# What reading damaged bytes raises.
_DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, ArithmeticError, RecursionError, NotImplementedError)


class _Unfit(ValueError):
    """What a file should have and what it has: the two words of a message."""

    def __init__(self, expected: str, found: object) -> None:
        super().__init__(expected, found)
        self.expected, self.found = expected, found


def safetensors(path: Path, remedy: str) -> dict[str, Array]:
    """Every tensor by name. Raises ContractError."""
    return _opened(path, remedy, "a safetensors file", _safetensors)


def exported(path: Path, remedy: str) -> dict[str, Array]:
    """Every float parameter and buffer of an exported module, by its dotted name: `student.blocks.0.norm1.weight`. Raises ContractError."""
    return _opened(path, remedy, "a TorchScript archive", _exported)


def _opened(path: Path, remedy: str, kind: str, read: Callable[[IO[bytes], memoryview], dict[str, Array]]) -> dict[str, Array]:
    try:
        with open_regular(path) as file:
            # A private mapping: torch takes no arrays that cannot be written. Nobody writes, so no page is copied.
            return read(file, memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)))
    except _Unfit as problem:
        raise refuse(path, "", expected=problem.expected, found=problem.found, remedy=remedy) from problem
    except ContractError:
        raise
    except (*_DAMAGE, pickle.UnpicklingError, zipfile.BadZipFile, struct.error) as problem:
        raise refuse(path, "", expected=kind, found=problem, remedy=remedy) from problem


def _safetensors(_: IO[bytes], whole: memoryview) -> dict[str, Array]:
    size = int.from_bytes(whole[:8], "little")
    if not 0 < size <= min(HEADER_BYTES, len(whole) - 8):
        raise _Unfit(f"a header of at most {len(whole) - 8} bytes", size)
    header = json.loads(bytes(whole[8 : 8 + size]))
    rest = whole[8 + size :]
    found = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in SAFETENSORS:
            raise _Unfit(f"tensors in {', '.join(SAFETENSORS)}", f"`{name}` in {entry['dtype']}")
        start, end = entry["data_offsets"]
        kind, shape = SAFETENSORS[entry["dtype"]], tuple(entry["shape"])
        if end - start != math.prod(shape) * kind.itemsize:
            raise _Unfit(f"{math.prod(shape) * kind.itemsize} bytes of `{name}` {list(shape)}", end - start)
        found[name] = _part(rest, start, kind, shape)
    return found


def _part(whole: memoryview, start: int, kind: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """Raises _Unfit where it does not lie inside."""
    sizes = (start, *shape)
    count = math.prod(shape)
    if not all(type(size) is int and size >= 0 for size in sizes) or start + count * kind.itemsize > len(whole):
        raise _Unfit(f"{len(whole)} bytes or more", f"a tensor {list(shape)} from byte {start} on")
    return np.frombuffer(whole, kind, count, start).reshape(shape)


def _exported(file: IO[bytes], whole: memoryview) -> dict[str, Array]:
    return dict(_tensors(_Attributes(dict(_entries(file, whole))).load(), ""))


def _entries(file: IO[bytes], whole: memoryview) -> Iterator[tuple[str, memoryview]]:
    """Every file in the archive by its path below the archive's own folder. Tensors are stored as they are, never compressed."""
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise _Unfit("entries that are not compressed", f"`{entry.filename}`, which is")
            at = entry.header_offset
            names = sum(int.from_bytes(whole[at + place : at + place + 2], "little") for place in (26, 28))  # of the name, and of what follows it
            start = at + 30 + names
            if bytes(whole[at : at + 4]) != b"PK\x03\x04" or start + entry.file_size > len(whole):
                raise _Unfit("whole entries", f"`{entry.filename}` from byte {at} on")
            yield entry.filename.partition("/")[2], whole[start : start + entry.file_size]


class _Node:
    """A module: its attributes are in its `__dict__`, whatever class it was."""


@dataclass(frozen=True)
class _Storage:
    kind: np.dtype[Any] | None
    key: str


class _Attributes(pickle.Unpickler):
    """The tree of attributes. Nothing that a pickle names is imported or called but what stands here."""

    def __init__(self, entries: dict[str, memoryview]) -> None:
        super().__init__(BytesIO(entries["data.pkl"]))
        self._entries = entries

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__."):
            return _Node
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._tensor
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if module == "torch" and name.endswith("Storage"):
            return name
        raise _Unfit("modules and tensors", f"`{module}.{name}`")

    def persistent_load(self, pid: Any) -> _Storage:
        _, name, key, *_ = pid
        return _Storage(STORAGES.get(name), str(key))

    def _tensor(self, storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object) -> Array | None:
        """None for what holds no floats. Raises _Unfit for a view that is not contiguous."""
        if storage.kind is None:
            return None
        dense = tuple(math.prod(shape[at + 1 :]) for at in range(len(shape)))
        if any(size > 1 and stride != wanted for size, stride, wanted in zip(shape, strides, dense, strict=True)):
            raise _Unfit("contiguous tensors", f"strides {list(strides)} of {list(shape)}")
        return _part(self._entries[f"data/{storage.key}"], offset * storage.kind.itemsize, storage.kind, shape)


def _tensors(node: object, name: str) -> Iterator[tuple[str, Array]]:
    if isinstance(node, np.ndarray):
        yield name, node
    elif isinstance(node, _Node):
        for part, value in vars(node).items():
            yield from _tensors(value, f"{name}.{part}" if name else part)
