"""RMS normalisation as one operation: the mean of squares is not rounded on the way, and does not overflow where fp16 would.

x · rsqrt(mean(x²) + ε) · γ, as converters write it (facts of the pattern: tests/runtime/mil/fast/test_passes.py).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from runtime.mil.fast.rewrite import Graph, either, fused, number, operand
from runtime.mil.lower import Lowered, Types, sizes
from runtime.mil.plan import Step

KIND = "rms_norm"
# rsqrt adds an epsilon of its own: below this it is lost beside the one of the norm.
NEGLIGIBLE = 1e-9


def match(graph: Graph, step: Step) -> Step | None:
    """The last product, by γ where there is one."""
    if step.kind != "mul":
        return None
    for inner, gamma in either(step):
        product = graph.maker(inner, "mul")
        found = _norm(graph, product) if product is not None and graph.uses[inner] == 1 else None
        if found and isinstance(gamma, Tensor) and gamma.dim() == 1 and gamma.shape[0] == found[2]:
            return fused(KIND, step, step.outputs[0], {"x": found[0]}, weight=gamma, epsilon=found[1])
    bare = _norm(graph, step)
    return fused(KIND, step, step.outputs[0], {"x": bare[0]}, weight=None, epsilon=bare[1], size=bare[2]) if bare else None


def lower(step: Step, types: Types) -> Lowered | None:
    weight, epsilon = step.fixed["weight"], step.fixed["epsilon"]
    size = weight.shape[0] if weight is not None else step.fixed["size"]
    gamma = torch.ones(size) if weight is None else weight

    def one(x: Tensor) -> Tensor:
        flat = x.reshape(-1)
        return (x * gamma).mul_(1 / math.sqrt(float(torch.dot(flat, flat)) / size + epsilon))

    if epsilon > 0 and math.prod(sizes(step, "x", types) or (0,)) == size:
        return one, ("x",)  # one vector: a third of the time
    return (lambda x: F.rms_norm(x, (size,), gamma, epsilon)), ("x",)


def _norm(graph: Graph, step: Step) -> tuple[str, float, int] | None:
    """(x, ε, size) if a product is x · rsqrt(mean(x²) + ε) over the last axis."""
    for x, scale in either(step):
        root = graph.maker(scale, "rsqrt")
        total = graph.maker(operand(root, "x"), "add") if root is not None and root.fixed.get("epsilon", 0.0) <= NEGLIGIBLE else None
        for mean, epsilon in either(total) if total is not None else ():
            size, added = _mean_of_squares(graph, mean, x), number(epsilon)
            if size and added is not None:
                return x, added, size
    return None


def _mean_of_squares(graph: Graph, name: Any, x: Any) -> int:
    """The size of the last axis if a value is the mean of x² over it; else 0."""
    mean, shape = graph.maker(name, "reduce_mean"), graph.shape(x)
    if mean is None or not shape or not shape[-1] or mean.fixed.get("axes") not in ((-1,), (len(shape) - 1,)) or not mean.fixed.get("keep_dims"):
        return 0
    squares = operand(mean, "x")
    power, product, square = (graph.maker(squares, kind) for kind in ("pow", "mul", "square"))
    squared = (
        (power is not None and operand(power, "x") == x and number(operand(power, "y")) == 2)
        or (product is not None and operand(product, "x") == x == operand(product, "y"))
        or (square is not None and operand(square, "x") == x)
    )
    return shape[-1] if squared else 0
