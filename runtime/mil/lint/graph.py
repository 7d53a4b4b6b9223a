"""Rules about operations and their values. What each means and where it comes from stands in table.py."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from runtime.mil.lint.facts import Hit, constants, extreme, given, hit, makers, sizes, tensors, users
from runtime.mil.program import Function, Operation, Program, TensorType

FP16_MAX = 65504.0
MASKS = (-5e4, -1e4)


def fp32_island(program: Program, function: Function) -> Iterator[Hit]:
    results = [(operation, output) for operation, output, kind in tensors(function) if kind.dtype.mil == "fp32"]
    if any(kind.dtype.mil == "fp16" for _, _, kind in tensors(function)):
        for operation, _ in results:
            yield hit(operation, "fp32 in a program of fp16")


def infinite_constant(program: Program, function: Function) -> Iterator[Hit]:
    made = makers(function)
    for operation, _, values in constants(function):
        if values.dtype.kind != "f":
            continue
        largest = extreme(values)
        if not np.isfinite(largest):
            yield hit(operation, "a constant that is infinite or no number")
        elif largest > FP16_MAX and operation.type == "const" and any(_to_fp16(user) for user in users(function, operation.name)):
            yield hit(operation, f"{largest:.6g}, cast to fp16")
    for operation in function.operations():
        source = made.get(str(operation.inputs["x"][0])) if operation.type == "cast" else None
        if source is not None and source.type == "fill" and _to_fp16(operation):
            value = given(function, source, "value")
            if value is not None and extreme(value.array()) > FP16_MAX:
                yield hit(source, "a fill beyond fp16, cast to fp16")


def _to_fp16(operation: Operation) -> bool:
    kind = operation.outputs[0].type if operation.type == "cast" else None
    return isinstance(kind, TensorType) and kind.dtype.mil == "fp16"


def mask_value(program: Program, function: Function) -> Iterator[Hit]:
    for operation, _, values in constants(function):
        if values.dtype.kind != "f" or not values.size:
            continue
        lowest, highest = float(np.amin(values)), float(np.amax(values))
        if highest <= 0 and -np.inf < lowest < -1e3 and not MASKS[0] <= lowest <= MASKS[1]:
            yield hit(operation, f"{lowest:.6g}")


def high_rank(program: Program, function: Function) -> Iterator[Hit]:
    for operation, _, kind in tensors(function):
        if kind.shape is not None and len(kind.shape) > 5:
            yield hit(operation, f"{kind}")


def rank_5_attention(program: Program, function: Function) -> Iterator[Hit]:
    for operation, _, kind in tensors(function):
        if operation.type in ("scaled_dot_product_attention", "softmax", "matmul") and kind.shape is not None and len(kind.shape) == 5:
            yield hit(operation, f"{kind}")


def fused_attention(program: Program, function: Function) -> Iterator[Hit]:
    for operation in function.operations():
        if operation.type == "scaled_dot_product_attention":
            yield hit(operation, "attention as one operation")


def batched_attention(program: Program, function: Function) -> Iterator[Hit]:
    for operation, _, kind in tensors(function):
        if operation.type == "scaled_dot_product_attention" and sizes(kind) and sizes(kind)[0] >= 10:
            yield hit(operation, f"a batch of {sizes(kind)[0]}")


def silu_kept(program: Program, function: Function) -> Iterator[Hit]:
    for operation in function.operations():
        if operation.type == "silu":
            yield hit(operation, "`silu` as one operation")


def gathers(program: Program, function: Function) -> Iterator[Hit]:
    made = makers(function)
    for operation, _, kind in tensors(function):
        table = made.get(str(operation.inputs["x"][0])) if operation.type in ("gather", "gather_nd") else None
        if operation.type == "gather_nd" or (table is not None and table.type == "const" and len(kind.shape or ()) == 2 and kind.dtype.is_float):
            yield hit(operation, "a table that is looked up at run time")


def power_of_two(program: Program, function: Function) -> Iterator[Hit]:
    for operation in function.operations():
        base = given(function, operation, "x") if operation.type == "pow" else None
        if base is not None and base.array().size == 1 and float(base.array().reshape(-1)[0]) == 2.0:
            yield hit(operation, "2 to the power of a value")
