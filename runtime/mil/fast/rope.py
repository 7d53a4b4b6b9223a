"""Rotary positions in three operations: [a·c - b·s, b·c + a·s] of the halves a, b of x is x · [c, c] + [b, a] · [-s, s]."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from runtime.mil.fast.rewrite import Graph, either, fused, operand
from runtime.mil.lower import Lowered, Types
from runtime.mil.plan import BlockPlan, Step
from runtime.mil.program import TensorType

KIND, TABLE = "rope", "rope_table"


def match(graph: Graph, step: Step) -> Step | None:
    """A concatenation of the two halves."""
    values = operand(step, "values") if step.kind == "concat" else None
    shape = step.outputs[0].type.shape if step.outputs else None
    if not isinstance(values, tuple) or len(values) != 2 or not shape or step.fixed.get("axis") not in (-1, len(shape) - 1):
        return None
    first, second = graph.maker(values[0], "sub"), graph.maker(values[1], "add")
    if first is None or second is None:
        return None
    ac, bs = (graph.maker(operand(first, side), "mul") for side in ("x", "y"))
    if ac is None or bs is None:
        return None
    for a, cos in either(ac):
        for b, sin in either(bs):
            x = _half(graph, a, 0)
            turned = {frozenset({b, cos}), frozenset({a, sin})} if all(name in graph.made for name in (cos, sin)) else None
            if x and x == _half(graph, b, 1) and turned == {_factors(graph, operand(second, side)) for side in ("x", "y")}:
                return fused(KIND, step, step.outputs[0], {"x": x, "cos": cos, "sin": sin})
    return None


def with_tables(plan: BlockPlan) -> BlockPlan:
    """The tables of cosines and sines are turned once, whatever number of heads and layers they turn."""
    types = {output.name: output for step in plan.steps for output in step.outputs}
    steps, known = list[Step](), set[str]()
    for step in plan.steps:
        if step.kind != KIND:
            steps.append(step)
            continue
        sources = []
        for source in step.sources:
            table = types.get(str(source.value)) if source.parameter != "x" else None
            if table is not None:
                output = replace(table, name=f"{table.name}+{source.parameter}", type=TensorType(table.type.dtype, None))
                if output.name not in known:
                    known.add(output.name)
                    steps.append(fused(TABLE, step, output, {"x": table.name}, sign=-1.0 if source.parameter == "sin" else 1.0))
                source = replace(source, value=output.name)  # noqa: PLW2901
            sources.append(source)
        steps.append(replace(step, sources=tuple(sources)))
    return replace(plan, steps=tuple(steps))


def lower(step: Step, types: Types) -> Lowered | None:
    return _rotate, ("x", "cos", "sin")


def lower_table(step: Step, types: Types) -> Lowered | None:
    sign = step.fixed["sign"]
    return (lambda x: torch.cat([x * sign, x], -1)), ("x",)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x: [..., D]; cos, sin: as `with_tables` makes them, of size D."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


def _half(graph: Graph, name: Any, which: int) -> str:
    """The value whose first (0) or second (1) half along the last axis this is; empty if it is none."""
    step = graph.maker(name, "slice_by_index")
    own, x = graph.shape(name), operand(step, "x") if step is not None else None
    whole = graph.shape(x)
    if step is None or not own or not whole or len(step.sources) != 1 or None in whole or whole != (*own[:-1], 2 * (own[-1] or 0)):
        return ""
    begin, masked = step.fixed["begin"][-1], step.fixed.get("begin_mask", (0,) * len(own))[-1]
    stride = step.fixed.get("stride", (1,) * len(own))
    start = 0 if masked else begin % (whole[-1] or 1)
    return str(x) if set(stride) == {1} and start == which * (own[-1] or 0) else ""


def _factors(graph: Graph, name: Any) -> frozenset[Any]:
    step = graph.maker(name, "mul")
    factors = [operand(step, side) for side in ("x", "y")] if step is not None else []
    return frozenset(factor for factor in factors if isinstance(factor, str))
