"""The codes that a package stores its weights in, by the student's names.

Here: which constant of a package is which weight, found by its numbers as in runtime/mil/compare/weights.py. Not here: reading packages
(runtime/mil/reader.py), how codes are held (held.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interlock.errors import UsageError
from runtime.backends.codes import Codes
from runtime.backends.held import Load, LoadCodes
from runtime.kernels.products import Floats, single
from runtime.mil.program import Block, Constant, Program, TensorType

OPERATION = "constexpr_blockwise_shift_scale"
# Of the first rows of a weight: the codes of another are no nearer to it than zeros are, and 4 bits of its own leave a tenth.
ALIKE, ROWS = 0.25, 8


@dataclass(frozen=True)
class Stored:
    """One weight [N, K] of a package: `Codes` in the arrays of the file."""

    data: Constant
    scale: Constant
    offset: Constant | None

    @property
    def shape(self) -> tuple[int, int]:
        return _shape(self.data)

    def codes(self, rows: int | None = None) -> Codes:
        """All of them, or the first rows."""
        count = self.shape[0] if rows is None else min(rows, self.shape[0])
        offset = None if self.offset is None else _first(self.offset, count)
        assert isinstance(self.data.type, TensorType)
        return Codes(_first(self.data, count), _first(self.scale, count), offset, self.data.type.dtype.bits)


def package_codes(program: Program, weights: Load) -> LoadCodes:
    """Codes of a weight by its name, None where the package stores it otherwise; `weights`: the same in floats.

    Raises UsageError for a package that stores no weight in codes.
    """
    found = {item.data.key(): item for function in program.functions.values() for item in stored(function.block)}
    if not found:
        remedy = "use --weights fp32 or int8, or build with compression `source`, `int8` or `int4`"
        raise UsageError("the package stores no weight in codes of 4 or 8 bits with a scale per row or block", remedy=remedy)
    by_shape: dict[tuple[int, int], list[Stored]] = {}
    for item in found.values():
        by_shape.setdefault(item.shape, []).append(item)
    samples: dict[int, Floats] = {}

    def load(name: str) -> Codes | None:
        wanted = weights(name)
        candidates = by_shape.get((wanted.shape[0], wanted.shape[1]), []) if wanted.ndim == 2 else []
        rows = single(wanted[:ROWS])
        scale = float(np.median(np.abs(rows))) or 1.0
        distances = [(float(np.median(np.abs(_sample(item, samples) - rows))) / scale, at) for at, item in enumerate(candidates)]
        distance, at = min(distances, default=(1.0, 0))
        return candidates[at].codes() if distance < ALIKE else None

    return load


def stored(block: Block) -> Iterator[Stored]:
    """Every matrix in codes of 4 or 8 bits with a scale for each row, or row and block of columns."""
    constants = {operation.outputs[0].name: operation.attributes["val"] for operation in block.operations if operation.type == "const"}
    for operation in block.operations:
        if operation.type != OPERATION:
            continue
        given = _given(operation.inputs, operation.attributes, constants)
        data, scale, offset = (given.get(name) for name in ("data", "scale", "offset"))
        if data is not None and scale is not None and _fits(data, scale, offset):
            yield Stored(data, scale, offset)


def _given(inputs: Mapping[str, Any], attributes: Mapping[str, Constant], constants: Mapping[str, Constant]) -> dict[str, Constant]:
    found = dict(attributes)
    for name, bindings in inputs.items():
        constant = constants.get(bindings[0]) if isinstance(bindings[0], str) else bindings[0]
        if constant is not None:
            found[name] = constant
    return found


def _fits(data: Constant, scale: Constant, offset: Constant | None) -> bool:
    types = [part.type for part in (data, scale, offset) if part is not None]
    if not all(isinstance(kind, TensorType) and kind.shape is not None and len(kind.shape) == 2 for kind in types):
        return False
    codes, scales = types[0], types[1]
    assert isinstance(codes, TensorType) and isinstance(scales, TensorType)
    (n, k), (rows, blocks) = _shape(data), _shape(scale)
    whole = rows == n and blocks > 0 and k % blocks == 0 and (offset is None or _shape(offset) == (rows, blocks))
    return whole and codes.dtype.bits in (4, 8) and (k * codes.dtype.bits) % 8 == 0 and scales.dtype.mil in ("fp16", "fp32")


def _shape(constant: Constant) -> tuple[int, int]:
    assert isinstance(constant.type, TensorType) and constant.type.shape is not None
    n, k = constant.type.shape
    return n or 0, k or 0


def _first(constant: Constant, count: int) -> NDArray[Any]:
    """The first rows, in memory of their own: the bits of a row end at a byte or are few."""
    (n, k), kind = _shape(constant), constant.type
    assert isinstance(kind, TensorType) and isinstance(constant.content, memoryview)
    bits = kind.dtype.bits * k
    if count == n or bits % 8:
        return np.array(constant.array()[:count])
    return np.array(Constant(TensorType(kind.dtype, (count, k)), constant.content[: count * bits // 8]).array())


def _sample(item: Stored, samples: dict[int, Floats]) -> Floats:
    if id(item) not in samples:
        samples[id(item)] = item.codes(ROWS).values()
    return samples[id(item)]
