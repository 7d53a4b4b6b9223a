"""What a step does with its result: checks its shape, rounds it, stores it.

Here: results and the shortest instructions around a function. Not here: which function (lower.py, matrices.py), which registers (code.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from runtime.mil.lower import Compute
from runtime.mil.plan import Output

Registers = list[Any]
Go = Callable[[Registers], None]
Settle = Callable[[Tensor], Tensor]


class Mismatch(Exception):
    """A result that is not of its declared type."""

    def __init__(self, output: Output, value: Tensor) -> None:
        super().__init__(output, value)
        self.expected, self.found = f"`{output.name}` as {output.type}", f"shape {list(value.shape)}"


def settling(output: Output, *, half: bool) -> Settle:
    """Checks the shape of a result, rounds it where `half`, and brings it to the type that holds it."""
    carrier, kind = output.carrier, output.type
    static = kind.shape if kind.shape is not None and None not in kind.shape else None

    def fits(value: Tensor) -> bool:
        return value.shape == static if static is not None else kind.admits(tuple(value.shape))

    def settle(value: Tensor) -> Tensor:
        if value.shape != static and not fits(value):
            raise Mismatch(output, value)
        return value if value.dtype is carrier else value.to(carrier)

    def round_(value: Tensor) -> Tensor:
        if value.shape != static and not fits(value):
            raise Mismatch(output, value)
        return rounded(value).to(carrier)

    return round_ if half else settle


def rounded(value: Tensor) -> Tensor:
    """To the nearest fp16 number, infinite from 65520 up; still held in fp32."""
    return value.half().float()


def nothing(registers: Registers) -> None:
    pass


def move(source: int, out: int) -> Go:
    def go(registers: Registers) -> None:
        registers[out] = registers[source]

    return go


def one(compute: Compute, x: int, out: int, settle: Settle) -> Go:
    def go(registers: Registers) -> None:
        registers[out] = settle(compute(registers[x]))

    return go


def two(compute: Compute, x: int, y: int, out: int, settle: Settle) -> Go:
    def go(registers: Registers) -> None:
        registers[out] = settle(compute(registers[x], registers[y]))

    return go


def many(compute: Compute, given: tuple[int, ...], out: int, settle: Settle) -> Go:
    def go(registers: Registers) -> None:
        registers[out] = settle(compute(*[registers[place] for place in given]))

    return go


def gathering(compute: Compute, given: tuple[int, ...], out: int, settle: Settle) -> Go:
    def go(registers: Registers) -> None:
        registers[out] = settle(compute([registers[place] for place in given]))

    return go
