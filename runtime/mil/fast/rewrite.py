"""What the rewrites share: finding the steps that make a value, and putting one step in their place.

Here: a plan as a graph. Not here: what is rewritten (the modules beside this one).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from runtime.mil.inplace import names
from runtime.mil.ops.registry import Entry
from runtime.mil.plan import BlockPlan, Output, Source, Step
from runtime.mil.views import without_dead

Made = Mapping[str, Step]
# A step that stands for several, or None.
Match = Callable[["Graph", Step], Step | None]


class Graph:
    """The steps of a function without blocks, by what they make."""

    def __init__(self, plan: BlockPlan) -> None:
        self.plan = plan
        self.made = {output.name: step for step in plan.steps for output in step.outputs}
        self.uses = Counter(name for step in plan.steps for name in names(step))
        self.uses.update(plan.outputs)

    def maker(self, value: Any, kind: str) -> Step | None:
        """The step that makes a value, if it is of this kind."""
        step = self.made.get(value) if isinstance(value, str) else None
        return step if step is not None and step.kind == kind else None

    def shape(self, value: Any) -> tuple[int | None, ...] | None:
        step = self.made.get(value) if isinstance(value, str) else None
        output = None if step is None else next(output for output in step.outputs if output.name == value)
        return None if output is None else output.type.shape


def operand(step: Step, parameter: str) -> Any:
    """A name, or a fixed value; None if it is left out."""
    if parameter in step.fixed:
        return step.fixed[parameter]
    return next((source.value for source in step.sources if source.parameter == parameter), None)


def number(value: Any) -> float | None:
    """A fixed single number."""
    return float(value) if isinstance(value, Tensor) and value.numel() == 1 else None


def either(step: Step) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """The operands of a commutative operation, both ways round."""
    x, y = operand(step, "x"), operand(step, "y")
    return (x, y), (y, x)


def fused(kind: str, like: Step, output: Output, taken: Mapping[str, str | tuple[str | Tensor, ...]], **fixed: Any) -> Step:
    """A step of a rewrite. taken: values of the run by parameter."""
    sources = tuple(Source(name, "Tensor" if isinstance(value, str) else "Tensors", value) for name, value in taken.items())
    return Step(kind, like.place, Entry(kind, _unused, {}, "", False, {}), fixed, sources, (output,), "", ())


def rewritten(plan: BlockPlan, match: Match) -> BlockPlan:
    """The plan with each step that `match` replaces; what nobody uses any more is gone."""
    graph = Graph(plan)
    return without_dead(replace(plan, steps=tuple(match(graph, step) or step for step in plan.steps)))


def renamed(plan: BlockPlan, other: Mapping[str, str]) -> BlockPlan:
    """The plan, reading other values instead of these."""

    def source(given: Source) -> Source:
        if isinstance(given.value, str):
            return replace(given, value=other.get(given.value, given.value))
        return replace(given, value=tuple(other.get(part, part) if isinstance(part, str) else part for part in given.value))

    return replace(plan, steps=tuple(replace(step, sources=tuple(map(source, step.sources))) for step in plan.steps))


def _unused(**given: Any) -> Tensor:
    raise AssertionError("a step of a rewrite is computed by its lowering")
