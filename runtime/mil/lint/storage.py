"""Rules about weights and how they are compressed. What each means and where it comes from stands in table.py."""

from __future__ import annotations

import math
from collections.abc import Iterator

from runtime.mil.lint.facts import Hit, elements, given, hit, sizes, stored_bytes, users
from runtime.mil.program import Constant, Function, Operation, Program, TensorType

LARGE_FUNCTION, WIDE, GROUP = 1 << 30, 8192, 4
# Compressors leave small tensors alone by their own threshold; above this one a weight that is left is worth knowing.
LEFT_ALONE = 1 << 14
_WEIGHT_OF = frozenset({"linear", "conv", "conv_transpose", "matmul", "gather", "gru", "lstm", "rnn"})


def large_function(program: Program, function: Function) -> Iterator[Hit]:
    size = stored_bytes(function)
    if size > LARGE_FUNCTION:
        yield Hit("function", function.name, f"{size / 1e9:.2f} GB of weights")


def wide_linear(program: Program, function: Function) -> Iterator[Hit]:
    made = {operation.outputs[0].name: operation for operation in _compressed(function)}
    for operation in function.operations():
        weight = made.get(str(operation.inputs["weight"][0])) if operation.type == "linear" else None
        if weight is not None and sizes(weight.outputs[0].type)[0] > WIDE:
            yield hit(operation, f"{sizes(weight.outputs[0].type)[0]} rows, compressed")


def block_int4(program: Program, function: Function) -> Iterator[Hit]:
    for operation in _compressed(function, "constexpr_blockwise_shift_scale"):
        data, scale = given(function, operation, "data"), given(function, operation, "scale")
        if data is not None and scale is not None and _bits(data) == 4 and sizes(scale.type)[-1] > 1:
            yield hit(operation, f"4 bits with scales {list(sizes(scale.type))}")


def lut_per_row_and_block(program: Program, function: Function) -> Iterator[Hit]:
    for operation, groups, _ in _tables(function):
        if sum(size > 1 for size in groups) > 1:
            yield hit(operation, f"tables {list(groups)}")


def lut_groups(program: Program, function: Function) -> Iterator[Hit]:
    for operation, groups, _ in _tables(function):
        shape = sizes(operation.outputs[0].type)
        if len(groups) == len(shape) and any(count > 1 and size // count < GROUP for count, size in zip(groups, shape, strict=True)):
            yield hit(operation, f"tables {list(groups)} for {list(shape)}")


def lut_with_state(program: Program, function: Function) -> Iterator[Hit]:
    for operation, _, entries in _tables(function):
        if function.states and entries <= 16:
            yield hit(operation, f"a table of {entries} entries beside states")


def compressed_no_weight(program: Program, function: Function) -> Iterator[Hit]:
    for operation in _compressed(function):
        others = [user.type for user in users(function, operation.outputs[0].name) if user.type not in _WEIGHT_OF and not _is_constexpr(user)]
        if others:
            yield hit(operation, f"compressed, taken by {others[0]}")


def weight_left_alone(program: Program, function: Function) -> Iterator[Hit]:
    if not any(True for _ in _compressed(function)):
        return
    for operation in function.operations():
        if operation.type == "const" and elements(operation.outputs[0].type) >= LEFT_ALONE:
            kind = operation.outputs[0].type
            if isinstance(kind, TensorType) and kind.dtype.is_float and any(u.type in _WEIGHT_OF for u in users(function, operation.name)):
                yield hit(operation, f"{kind} in a compressed package")


def _compressed(function: Function, *kinds: str) -> Iterator[Operation]:
    for operation in function.operations():
        if _is_constexpr(operation) and operation.type != "constexpr_cast" and (not kinds or operation.type in kinds):
            yield operation


def _is_constexpr(operation: Operation) -> bool:
    return operation.type.startswith("constexpr_")


def _tables(function: Function) -> Iterator[tuple[Operation, tuple[int, ...], int]]:
    """(operation, tables per dimension, entries of a table): `lut` is [groups ..., entries, vector] from iOS 18, [entries] before."""
    for operation in _compressed(function, "constexpr_lut_to_dense"):
        lut = given(function, operation, "lut")
        if lut is not None:
            shape = sizes(lut.type)
            grouped = len(shape) > 2
            yield operation, shape[:-2] if grouped else (1,), shape[-2] if grouped else math.prod(shape)


def _bits(constant: Constant) -> int:
    return constant.type.dtype.bits if isinstance(constant.type, TensorType) else 0
