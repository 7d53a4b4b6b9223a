"""The table of operations: which are done, what they take, which test proves each.

Here: registration and the rules that every operation's function follows. Not here: the operations (one module per family beside this one),
binding values to parameters (plan.py).

An operation is a function whose parameters have the names of MIL and whose annotations say what it is given: `Tensor` an array, `Tensors`
several, `Ints` and `int`, `float`, `bool`, `str` values on the host, `Names` a constant list of strings or integers. A parameter with a default is
optional. Arrays of every floating type arrive as fp32 or fp64, results may be of any precision: the executor brings them to the declared type.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from torch import Tensor

Ints = tuple[int, ...]
Tensors = tuple[Tensor, ...]
Names = tuple[str | int, ...]
Result = Tensor | tuple[Tensor, ...]
Given = Literal["Tensor", "Tensors", "Ints", "int", "float", "bool", "str", "Names"]
Run = Callable[..., Any]
RunT = TypeVar("RunT", bound=Run)


Choices = Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class Parameter:
    """given: what the function takes; required: it has no default."""

    name: str
    given: Given
    required: bool


@dataclass(frozen=True)
class Entry:
    """One operation. moves: the result holds elements of the inputs and no other numbers, so that there is nothing to round;
    choices: the values of a parameter that are done, where not all are; proof: `file::test` below tests/runtime/mil."""

    name: str
    run: Run
    parameters: dict[str, Parameter]
    proof: str
    moves: bool
    choices: Choices


OPERATIONS: dict[str, Entry] = {}
# Evaluated once, when a function is planned: their inputs are constants.
CONSTANT_OPERATIONS: dict[str, Entry] = {}
# What the core set has and this table has not, and why; a case of an operation that is done otherwise in parentheses.
NOT_DONE = {
    "_const_symbolic": "exists inside the converter only and is never saved",
    "conv_quantized (quantization_type lut)": "the operation names no table",
    "crop_resize (sampling_mode UNALIGN_CORNERS)": "coremltools' own test of it expects the whole image resized, whatever the box is",
    "make_list (elem_shape with symbols)": "a symbol has no value in a saved program",
}


def operation(*names: str, proof: str, moves: bool = False, **choices: frozenset[str]) -> Callable[[RunT], RunT]:
    """Register a function under the names of MIL."""

    def register(run: RunT) -> RunT:
        for name in names:
            OPERATIONS[name] = Entry(name, run, _parameters(run), proof, moves, choices)
        return run

    return register


def constant_operation(name: str, *, proof: str) -> Callable[[RunT], RunT]:
    """Register a function of numpy arrays whose result is a constant."""

    def register(run: RunT) -> RunT:
        CONSTANT_OPERATIONS[name] = Entry(name, run, _parameters(run), proof, moves=True, choices={})
        return run

    return register


def _parameters(run: Run) -> dict[str, Parameter]:
    found = {}
    for name, parameter in inspect.signature(run).parameters.items():
        given = str(parameter.annotation).removesuffix(" | None")
        found[name] = Parameter(name, _GIVEN[given], parameter.default is inspect.Parameter.empty)
    return found


_GIVEN: dict[str, Given] = {
    "Tensor": "Tensor",
    "NDArray[Any]": "Tensor",
    "Tensors": "Tensors",
    "Ints": "Ints",
    "int": "int",
    "float": "float",
    "bool": "bool",
    "str": "str",
    "Names": "Names",
}
