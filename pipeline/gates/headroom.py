"""Head-room: how far the values of a package stay below what fp16 can hold, on real text.

Here: watching runs, what cannot be safe in any run, how much room is enough. Not here: running (runtime/mil), the text (pipeline/export/prompt.txt).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from interlock.contracts.package import HeadRoom
from runtime.mil import Program
from runtime.mil.ops.registry import OPERATIONS
from runtime.mil.program import Constant, Function, Operation, TensorType
from runtime.mil.sweep import uses

FP16_MAX = 65504.0
# What other text can add. The greatest of N values whose tails fall off exponentially grows as ln N: to double it takes N² values, which is 10^10
# tokens where 10^3 were watched. Measured on SmolLM2-135M, 843 values on eight texts of 512 tokens: to what one text shows, the seven others add 6 %
# (median), 90 % (99th percentile), and at most 41 % to values above 4096; to what two texts show, 1 % to values above 1000.
ENOUGH = 2.0
SHOWN = 10


@dataclass
class Watch:
    """Takes part in runs of one program as their `observe`, and remembers the greatest size of every value that is watched."""

    program: Program
    functions: dict[str, dict[str, Operation]] = field(default_factory=dict)
    greatest: dict[tuple[str, str], float] = field(default_factory=dict)

    def __call__(self, place: str, name: str, value: Tensor) -> None:
        function = place.split("/")[1]
        if name in self._watched(function) and value.numel():
            low, high = torch.aminmax(value)
            # NaN is greater than anything here: it stays
            size = torch.maximum(low.abs(), high.abs()).item()
            known = self.greatest.get((function, name), 0.0)
            self.greatest[function, name] = size if size > known or np.isnan(size) else known

    def headroom(self) -> tuple[HeadRoom, ...]:
        """The values with the least room, least first; of values that are not finite the first that was computed, because the rest may follow."""
        broken = [key for key, size in self.greatest.items() if not np.isfinite(size)]
        if broken:
            return (self._record(*broken[0]),)
        ranked = sorted(self.greatest, key=lambda key: (-self.greatest[key], key))
        return tuple(self._record(*key) for key in ranked[:SHOWN])

    def _record(self, function: str, name: str) -> HeadRoom:
        size = self.greatest[function, name]
        kind = self._watched(function)[name].type
        if not np.isfinite(size):
            return HeadRoom(function=function, operation=kind, value=name, max_abs=None, factor=0.0)
        factor = FP16_MAX / size if size else FP16_MAX
        return HeadRoom(function=function, operation=kind, value=name, max_abs=float(f"{size:.4g}"), factor=float(f"{factor:.3g}"))

    def _watched(self, function: str) -> dict[str, Operation]:
        if function not in self.functions:
            self.functions[function] = dict(_watched(self.program.functions[function]))
        return self.functions[function]


def _watched(function: Function) -> Iterator[tuple[str, Operation]]:
    """Computed fp16 values that depend on the text. What depends on positions alone is the same for every text: it is finite or it is not."""
    reached = {value.name for value in function.inputs if value.name not in ("position_ids", "last_index")}
    for operation in function.block.operations:
        if operation.type != "read_state" and reached.isdisjoint(uses(operation)):
            continue
        entry = OPERATIONS.get(operation.type)
        for output in operation.outputs:
            reached.add(output.name)
            if entry is not None and not entry.moves and isinstance(output.type, TensorType) and output.type.dtype.mil == "fp16":
                yield output.name, operation


def shortage(headroom: Sequence[HeadRoom], enough: float = ENOUGH) -> list[str]:
    """What has less room than `enough`, one line each."""
    return [
        f"{item.function}, {item.operation} `{item.value}`: "
        + ("overflows fp16" if item.max_abs is None else f"reaches {item.max_abs:g}, fp16 holds 65504: room {item.factor:g}, at least {enough:g}")
        + "; compute it in fp32 (`keeps_range_in_fp16`) or scale the weights before it down"
        for item in headroom
        if item.factor < enough
    ]


def unsafe(program: Program) -> list[str]:
    """What no run needs to show: constants that are not finite, and angles computed in the graph, where fp16 cannot hold a position."""
    found, seen = [], set[tuple[str, int]]()
    for function in program.functions.values():
        for operation in function.operations():
            if operation.type in ("sin", "cos"):
                found.append(f"{function.name}, {operation.type} `{operation.name}`: angles of positions must come from tables that are made in fp32")
            value = operation.attributes.get("val")
            if operation.type != "const" or value is None or value.origin in seen:
                continue
            if value.origin is not None:
                seen.add(value.origin)
            if not _finite(value):
                found.append(f"{function.name}, const `{operation.name}`: holds a value that is not finite; a mask needs a finite one (-1e4)")
    return found


def _finite(value: Constant) -> bool:
    kind = value.type
    if not isinstance(kind, TensorType) or not kind.dtype.is_float or kind.dtype.numpy is None:
        return True
    return bool(np.isfinite(value.array()).all())
