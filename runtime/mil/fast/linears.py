"""Products of one value as one product, and biases of zeros left out."""

from __future__ import annotations

from dataclasses import replace
from operator import methodcaller

import torch
from torch import Tensor

from runtime.mil.fast.packed import form
from runtime.mil.fast.rewrite import fused
from runtime.mil.lower import Lowered, Types
from runtime.mil.plan import BlockPlan, Output, Step
from runtime.mil.program import TensorType
from runtime.mil.weights import Matrix

KIND = "narrow"


def merged(plan: BlockPlan) -> BlockPlan:
    """Linear operations on one value with weights of one form: their rows stand below each other, and each result is a view."""
    groups: dict[tuple[object, ...], list[Step]] = {}
    for step in plan.steps:
        if (
            step.kind == "linear"
            and isinstance(weight := step.fixed.get("weight"), Matrix)
            and [source.parameter for source in step.sources] == ["x"]
        ):
            groups.setdefault((step.sources[0].value, form(weight.parts[0])), []).append(step)
    first = {id(group[0]): group for group in groups.values()}
    rest = {id(step) for group in groups.values() for step in group[1:]}
    steps: list[Step] = []
    for step in plan.steps:
        if id(step) in first:
            steps += _merge(first[id(step)])
        elif id(step) not in rest:
            steps.append(step)
    return replace(plan, steps=tuple(steps))


def narrow(step: Step, types: Types) -> Lowered | None:
    return methodcaller("narrow", -1, step.fixed["start"], step.fixed["size"]), ("x",)


def _merge(group: list[Step]) -> list[Step]:
    weight = Matrix(tuple(part for step in group for part in step.fixed["weight"].parts))
    fixed = {"weight": weight, **_bias([step.fixed.get("bias") for step in group], group)}
    if len(group) == 1:
        return [replace(group[0], fixed=fixed)]
    output = group[0].outputs[0]
    name = f"{output.name}+{len(group) - 1}"  # no value of a program is called so: it has a character that names may not have
    shape = None if output.type.shape is None else (*output.type.shape[:-1], weight.shape[0])
    whole = replace(output, name=name, type=TensorType(output.type.dtype, shape))
    return [replace(group[0], fixed=fixed, outputs=(whole,)), *_parts(group, whole)]


def _parts(group: list[Step], whole: Output) -> list[Step]:
    parts, start = [], 0
    for step in group:
        size = step.fixed["weight"].shape[0]
        parts.append(fused(KIND, step, step.outputs[0], {"x": whole.name}, start=start, size=size))
        start += size
    return parts


def _bias(biases: list[Tensor | None], group: list[Step]) -> dict[str, Tensor]:
    """Of the whole product; none where all are zero."""
    if not any(bias is not None and bool(bias.any()) for bias in biases):
        return {}
    zeros = [torch.zeros(step.fixed["weight"].shape[0]) for step in group]
    return {"bias": torch.cat([zero if bias is None else bias for bias, zero in zip(biases, zeros, strict=True)])}
