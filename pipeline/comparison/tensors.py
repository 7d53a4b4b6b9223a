"""Two sets of named tensors, one tensor at a time and in chunks: memory stays at a few copies of the largest, whatever a model's size.

Here: comparing numbers, and tensors of safetensors and TorchScript files. Not here: constants of packages (graphs.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interlock.contracts.io import open_regular
from pipeline.comparison.records import Found, Tensor

Numbers = NDArray[Any]
Note = Callable[[str], None]
# Elements that are widened at a time: 8 MB for each side and each temporary.
CHUNK = 1 << 20
# Contracts cap PSNR there.
CAP_DB = 200.0
# safetensors' names and how numpy reads them; BF16 is the upper half of an fp32. What numpy does not have (F8) is compared by its bytes.
_DTYPES = {
    "BOOL": "?", "U8": "<u1", "I8": "<i1", "I16": "<i2", "U16": "<u2", "F16": "<f2", "BF16": "<u2", "I32": "<i4", "U32": "<u4", "F32": "<f4",
    "I64": "<i8", "U64": "<u8", "F64": "<f8",
}  # fmt: skip


@dataclass(frozen=True)
class Named:
    """A tensor that is not read yet. form: how its elements are stored; read: its numbers, of any shape."""

    shape: tuple[int, ...]
    form: str
    read: Callable[[], Numbers]


def compare_tensors(part: str, a: Mapping[str, Named], b: Mapping[str, Named], bound: float, note: Note) -> Found:
    """Tensors by name."""
    found = []
    for name in dict.fromkeys((*a, *b)):
        note(name)
        item = compare_tensor(part, name, a.get(name), b.get(name), bound)
        if item is not None:
            found.append(item)
    return Found(tensors=tuple(found), compared=len({*a, *b}))


def compare_tensor(part: str, name: str, a: Named | None, b: Named | None, bound: float) -> Tensor | None:
    """How one tensor differs; None where values, shape and form are equal."""
    told = Tensor(
        part=part,
        name=name,
        shape_a=a.shape if a else None,
        shape_b=b.shape if b else None,
        form_a=a.form if a else None,
        form_b=b.form if b else None,
        within=False,
    )
    if a is None or b is None or a.shape != b.shape:
        return told
    peak, greatest, squares = differences(a.read(), b.read())
    if greatest == 0 and a.form == b.form:
        return None
    if not math.isfinite(greatest):
        return told
    relative = greatest / peak if peak else (math.inf if greatest else 0.0)
    rms = math.sqrt(squares / max(1, math.prod(a.shape)))
    psnr = CAP_DB if not rms else min(CAP_DB, 20 * math.log10(peak / rms)) if peak else None
    shown = relative if math.isfinite(relative) else None
    return told.model_copy(update={"max_abs": greatest, "relative": shown, "psnr_db": psnr, "within": relative <= bound})


def differences(a: Numbers, b: Numbers) -> tuple[float, float, float]:
    """(greatest finite |a|, greatest |a - b|, sum of squares of a - b). Equal infinities are equal, and NaN is equal to NaN; else both are infinitely
    far from anything."""
    peak, greatest, squares = 0.0, 0.0, 0.0
    one, other = np.ravel(a), np.ravel(b)
    for start in range(0, one.size, CHUNK):
        x, y = one[start : start + CHUNK].astype(np.float64), other[start : start + CHUNK].astype(np.float64)
        peak = max(peak, float(np.max(np.abs(x), where=np.isfinite(x), initial=0.0)))
        if np.array_equal(x, y):
            continue
        with np.errstate(invalid="ignore"):
            far = np.abs(y - x)
        far[(x == y) | (np.isnan(x) & np.isnan(y))] = 0.0
        far[np.isnan(far)] = np.inf
        greatest = max(greatest, float(far.max()))
        squares += float(np.square(far[np.isfinite(far)]).sum())
    return peak, greatest, squares


def safetensors(file: Path) -> dict[str, Named]:
    """The tensors of a safetensors file, mapped. Raises ContractError."""
    from pipeline.sources.safetensors import TensorEntry, check_header

    entries = check_header(file)
    with open_regular(file) as stream:
        begin = 8 + int.from_bytes(stream.read(8), "little")

    def named(entry: TensorEntry) -> Named:
        def read() -> Numbers:
            count = math.prod(entry.shape)
            if not count:
                return np.empty(0)
            stored: Numbers = np.memmap(file, np.dtype(_DTYPES.get(entry.dtype, "<u1")), "r", begin + entry.begin, (count,))
            return (stored.astype(np.uint32) << 16).view(np.float32) if entry.dtype == "BF16" else stored

        return Named(entry.shape, entry.dtype, read)

    return {name: named(entry) for name, entry in entries.items()}


def torchscript(module: Any) -> dict[str, Named]:
    """Parameters and buffers of a TorchScript module as stored."""
    return dict(_of_module(module))


def _of_module(module: Any) -> Iterator[tuple[str, Named]]:
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        yield name, Named(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), tensor.detach().numpy)
