"""Views of views as one view, and lists of integers that are never made as arrays.

Here: both rewrites of a plan; no value is another one for them. Not here: which steps are views (lower.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from runtime.mil.inplace import names
from runtime.mil.lower import Compute, Lower, Lowered, Types, lower, sizes
from runtime.mil.ops.registry import Entry, Parameter
from runtime.mil.plan import BlockPlan, Output, Source, Step

KIND = "view"
# Operations that are views of `x` wherever their result can be one.
VIEWS = frozenset({"reshape", "transpose", "expand_dims", "slice_by_index", "narrow"})
# Parameters that take lists of integers.
LISTS = {"slice_update": ("begin", "end"), "slice_by_index": ("begin", "end")}


def direct_views(plan: BlockPlan, inputs: Types, more: Mapping[str, Lower]) -> BlockPlan:
    """Each view as one view of the first value that is none: what stood between is gone where nothing else uses it."""
    types: dict[str, Output] = {**inputs, **{output.name: output for step in plan.steps for output in step.outputs}}
    roots: dict[str, tuple[str, tuple[Compute, ...]]] = {}  # by view: of what, by which functions
    steps = []
    for step in plan.steps:
        lowered = _lowered(step, types, more) if step.kind in VIEWS else None
        x = step.sources[0].value if lowered is not None and lowered[1] == ("x",) and step.sources else None
        if lowered is None or not isinstance(x, str):
            steps.append(step)
            continue
        root, before = roots.get(x, (x, ()))
        computes = (*before, lowered[0])
        placed = _placed(computes, sizes(replace(step, sources=(Source("x", "Tensor", root),)), "x", types))
        if placed is None:
            steps.append(step)
            continue
        roots[step.outputs[0].name] = root, computes
        fixed = {"computes": computes, "placed": placed}
        steps.append(replace(step, kind=KIND, entry=_ENTRY, fixed=fixed, sources=(Source("x", "Tensor", root),)))
    return without_dead(replace(plan, steps=tuple(steps)))


def direct_lists(plan: BlockPlan, inputs: Types) -> BlockPlan:
    """Places that are a concatenation of integers are read integer by integer: a constant among them is never read again."""
    types: dict[str, Output] = {**inputs, **{output.name: output for step in plan.steps for output in step.outputs}}
    made = {output.name: step for step in plan.steps for output in step.outputs}
    steps = []
    for step in plan.steps:
        sources = tuple(_spread(source, made, types) if source.parameter in LISTS.get(step.kind, ()) else source for source in step.sources)
        steps.append(replace(step, sources=sources))
    return without_dead(replace(plan, steps=tuple(steps)))


def lower_view(step: Step, types: Types) -> Lowered | None:
    computes, (size, stride, offset) = step.fixed["computes"], step.fixed["placed"]

    def view(x: Tensor) -> Tensor:
        if x.is_contiguous():
            return x.as_strided(size, stride, x.storage_offset() + offset)
        for compute in computes:
            x = compute(x)
        return x

    return view, ("x",)


def without_dead(plan: BlockPlan) -> BlockPlan:
    """Steps whose results are used, and those that touch states or hold blocks."""
    wanted, kept = set(plan.outputs), list[Step]()
    for step in reversed(plan.steps):
        if step.kind == "write_state" or step.blocks or any(output.name in wanted for output in step.outputs):
            kept.append(step)
            wanted.update(names(step))
    return replace(plan, steps=tuple(reversed(kept)))


def _lowered(step: Step, types: Types, more: Mapping[str, Lower]) -> Lowered | None:
    return more[step.kind](step, types) if step.kind in more else lower(step, types)


def _placed(computes: tuple[Compute, ...], shape: tuple[int, ...] | None) -> tuple[tuple[int, ...], tuple[int, ...], int] | None:
    """Sizes, strides and offset of a view of a value whose elements are in order; None if it is none, but a copy."""
    if shape is None:
        return None
    base = torch.empty(shape, device="meta")
    view = base
    for compute in computes:
        view = compute(view)
    return (tuple(view.shape), view.stride(), int(view.storage_offset())) if view._base is base else None


def _spread(source: Source, made: Mapping[str, Step], types: Types) -> Source:
    step = made.get(source.value) if isinstance(source.value, str) else None
    if step is None or step.kind != "concat" or step.outputs[0].type.dtype.is_float:
        return source
    (values,) = (given.value for given in step.sources if given.parameter == "values")
    single = isinstance(values, tuple) and all(types[part].type.shape == (1,) if isinstance(part, str) else part.numel() == 1 for part in values)
    return replace(source, value=values) if single else source


_ENTRY = Entry(KIND, lower_view, {"x": Parameter("x", "Tensor", True)}, "", True, {})
