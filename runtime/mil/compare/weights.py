"""The student's weights among the package's constants: found by their numbers, held to what storing them may change.

Here: which constant is which weight, which of its elements are wrong, the student with the weights as the package stores them. Not here: values of a
run (match.py). With the package's own weights in the reference, what is lost by storing them (fp16, 8 or 4 bits) is judged here, element by element,
and every difference that is left in the run is one of the graph.

Bounds for an element w: stored as fp16, 2^-10 |w| (half an fp16 step is 2^-11 |w|) and 2^-24 near zero; by scale and offset, three quarters of its
scale (half a step, and what clipping at the ends of the range adds); by a table or otherwise, OUTLIER medians of the difference over the tensor.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from runtime.mil import Program
from runtime.mil.compare.report import Difference
from runtime.mil.program import Block, Constant, Operation, TensorType
from runtime.mil.weights import Computed, Fixed, Weights
from runtime.student.model import Student

OUTLIER = 16.0
# A constant is a weight if half of its elements are: a flipped bit, a zeroed row or a lost column leaves it recognisable.
_ALIKE = 0.25
_SAMPLE = 4096


@dataclass(frozen=True)
class Stored:
    """A floating constant that operations take. users: their names, in order; maker: the operation that it comes from; scale: of its elements,
    where it is stored by scale and offset."""

    function: str
    name: str
    users: tuple[Operation, ...]
    value: Tensor
    maker: str
    scale: Tensor | None


@dataclass(frozen=True)
class Held:
    """student: a copy with the weights as stored where storing explains the difference; names: of the weight in each constant."""

    student: Student
    names: dict[tuple[str, str], list[str]]
    differences: tuple[Difference, ...]


def hold(program: Program, student: Student, functions: tuple[str, ...]) -> Held:
    """Find every weight and rope table of the student in every function."""
    copy = deepcopy(student)
    held: dict[tuple[str, str], list[str]] = {}
    found: list[Difference] = []
    stored = list(_stored(program, functions))
    judged: set[tuple[str, int]] = set()
    for name, weight in (*copy.named_parameters(), *copy.named_buffers()):
        original = weight.detach().clone()
        taken = False
        for item, value in _alike(original, [item for item in stored if item.value.numel() == original.numel()]):
            held.setdefault((item.function, item.name), []).append(name)
            wrong = _wrong(original, value, item)
            if int(wrong.sum()):
                if (name, value.data_ptr()) not in judged:
                    found += _violations(name, item, original, value, wrong)
                judged.add((name, value.data_ptr()))
            elif not taken:
                weight.data.copy_(value)
                taken = True
        if not taken:
            weight.data.copy_(original.half().float())
    return Held(copy, held, (*found, *_misnamed(stored, held, {name for name, _ in (*copy.named_parameters(), *copy.named_buffers())})))


def _misnamed(stored: list[Stored], held: dict[tuple[str, str], list[str]], names: set[str]) -> Iterator[Difference]:
    """Constants that are named after one weight and hold another: converters keep a module's path in the name."""
    paths = {name: name.replace(".", "_") for name in names}
    for item in stored:
        holds = held.get((item.function, item.name), [])
        called = [name for name, path in paths.items() if path in item.name]
        if holds and called and not set(holds) & set(called):
            for user in item.users:
                yield Difference(item.function, user.name, user.type, "weight", f"`{item.name}` holds `{holds[0]}`", f"`{called[0]}`")


def _violations(name: str, item: Stored, weight: Tensor, value: Tensor, wrong: Tensor) -> Iterator[Difference]:
    at = int((value - weight).abs().reshape(-1).argmax())
    shown = f"`{item.name}` differs from `{name}` in {int(wrong.sum())} of {weight.numel()} elements, e.g. {float(value.reshape(-1)[at]):.6g}"
    expected = f"{float(weight.reshape(-1)[at]):.6g} at flat index {at}"
    for user in item.users:
        yield Difference(item.function, user.name, user.type, "weight", shown, expected)


def _alike(weight: Tensor, candidates: list[Stored]) -> list[tuple[Stored, Tensor]]:
    """The constants that are nearest to a weight in each function, as [weight's shape], if they are the weight at all: several where one is stored
    twice, as a tied weight may be."""
    places = torch.arange(0, weight.numel(), max(1, weight.numel() // _SAMPLE))
    sample = weight.reshape(-1)[places]
    scale = float(sample.abs().median()) or float(sample.abs().max()) or 1.0
    shaped = [(item, value) for item in candidates for value in _shaped(item.value, weight)]
    # functions share tensors: each is measured once
    by_place = {value.data_ptr(): float((_at(value, places) - sample).abs().median()) / scale for _, value in shaped}
    best: dict[str, float] = {}
    for item, value in shaped:
        best[item.function] = min(by_place[value.data_ptr()], best.get(item.function, _ALIKE))
    return [(item, value) for item, value in shaped if by_place[value.data_ptr()] <= best[item.function] < _ALIKE]


def _at(value: Tensor, places: Tensor) -> Tensor:
    """Elements by flat index; a transposed matrix is not copied for them."""
    return value[places // value.shape[1], places % value.shape[1]] if value.dim() == 2 else value.reshape(-1)[places]


def _shaped(value: Tensor, weight: Tensor) -> Iterator[Tensor]:
    shape = tuple(size for size in value.shape if size != 1)
    wanted = tuple(size for size in weight.shape if size != 1)
    if shape == wanted:
        yield value.reshape(weight.shape)
    elif weight.dim() == 2 and shape == wanted[::-1]:
        yield value.reshape(wanted[::-1]).t()


def _wrong(weight: Tensor, value: Tensor, item: Stored) -> Tensor:
    """Which elements no storing explains."""
    difference = (value - weight).abs()
    if item.maker == "const":
        bound = 2.0**-10 * weight.abs() + 2.0**-24
    elif item.scale is not None:
        bound = 0.75 * item.scale.reshape(weight.shape) + 2.0**-10 * weight.abs()
    else:
        bound = OUTLIER * difference.median() + 2.0**-10 * weight.abs()
    return ~(difference <= bound)


def _stored(program: Program, functions: tuple[str, ...]) -> Iterator[Stored]:
    """Every floating constant of two elements or more, dense."""
    weights = Weights()
    for function in functions:
        block = program.functions[function].block
        constants: dict[str, Fixed] = {}
        made: dict[str, Operation] = {}
        for operation in block.operations:
            if operation.type == "const":
                constants[operation.outputs[0].name] = operation.attributes["val"]
            elif operation.type.startswith("constexpr_"):
                given = _given(operation, constants)
                constants.update({output.name: Computed(operation, given, at) for at, output in enumerate(operation.outputs)})
            else:
                continue
            made[operation.outputs[0].name] = operation
        for name, users in _users(block, set(constants)).items():
            value = _dense(weights, constants[name])
            if value is not None and value.numel() > 1:
                yield Stored(function, name, users, value, made[name].type, _scale(weights, made[name], constants, value))


def _given(operation: Operation, constants: dict[str, Fixed]) -> dict[str, Fixed]:
    given: dict[str, Fixed] = {name: value for name, value in operation.attributes.items() if name != "name"}
    for name, bindings in operation.inputs.items():
        given[name] = constants[bindings[0]] if isinstance(bindings[0], str) else bindings[0]
    return given


def _users(block: Block, constants: set[str]) -> dict[str, tuple[Operation, ...]]:
    found: dict[str, tuple[Operation, ...]] = {}
    for operation in block.operations:
        if operation.type != "const" and not operation.type.startswith("constexpr_"):
            for bindings in operation.inputs.values():
                for name in {item for item in bindings if isinstance(item, str) and item in constants}:
                    found[name] = (*found.get(name, ()), operation)
    return found


def _dense(weights: Weights, value: Fixed) -> Tensor | None:
    if isinstance(value, Constant) and (not isinstance(value.type, TensorType) or not value.type.dtype.is_float):
        return None
    dense = weights.tensor(value)
    return dense if dense.dtype == torch.float32 else None


def _scale(weights: Weights, made: Operation, constants: dict[str, Fixed], value: Tensor) -> Tensor | None:
    """The scale of every element of a weight that is stored by scale and offset, per block of any shape."""
    if made.type not in ("constexpr_blockwise_shift_scale", "constexpr_affine_dequantize"):
        return None
    scale = torch.from_numpy(np.asarray(_given(made, constants)["scale"].array(), np.float32)).abs()
    if made.type == "constexpr_affine_dequantize" and scale.dim() == 1:
        axis = int(np.asarray(_given(made, constants)["axis"].array()).reshape(-1)[0])
        scale = scale.reshape([-1 if at == axis else 1 for at in range(value.dim())])
    if scale.dim() != value.dim():
        return scale.reshape(-1).max().expand(value.shape)
    for axis in range(value.dim()):
        scale = scale.repeat_interleave(value.shape[axis] // scale.shape[axis], axis)
    return scale
