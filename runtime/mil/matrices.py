"""Operations on a constant matrix whose layout was chosen for them: products and the rows of a table.

Here: their functions. Not here: layouts (weights.py, backends/products.py), when they are taken (code.py).
"""

from __future__ import annotations

import math

from torch import Tensor

from runtime.backends.products import Product
from runtime.mil.lower import Compute, Lowered, Types, sizes
from runtime.mil.ops.gather import resolved
from runtime.mil.plan import Step
from runtime.mil.program import TensorType
from runtime.mil.weights import Matrix, Selects


def linear(weight: Product, step: Step, types: Types) -> Lowered:
    """x·Wᵀ + b. One vector where x is known to be one."""
    given, out = sizes(step, "x", types), step.outputs[0].type.shape
    depth, has_bias = step.fixed["weight"].shape[1], "bias" in step.fixed or any(source.parameter == "bias" for source in step.sources)

    def vector(x: Tensor) -> Tensor:
        return weight.vector(x.reshape(-1)).view(shape)

    def rows(x: Tensor) -> Tensor:
        if x.shape[-1] != depth:
            raise ValueError(f"{x.shape[-1]} columns for a weight of {depth}")
        flat = x.reshape(-1, depth)
        return (weight.rows(flat) if len(flat) != 1 else weight.vector(flat[0])[None]).reshape(*x.shape[:-1], -1)

    single = given is not None and out is not None and None not in out and math.prod(given) == given[-1] == depth
    shape = tuple(size or 0 for size in out or ())
    product = vector if single else rows
    return ((lambda x, bias: product(x) + bias), ("x", "bias")) if has_bias else (product, ("x",))


def is_lookup(step: Step, table: Matrix) -> bool:
    """Whether whole rows of a stored fp16 matrix are read."""
    moved = {source.parameter for source in step.sources} != {"indices"}
    kind = table.parts[0].type
    return (
        not moved
        and step.fixed.get("axis", 0) == 0
        and step.fixed.get("batch_dims", 0) == 0
        and isinstance(kind, TensorType)
        and kind.dtype.mil == "fp16"
    )


def lookup(rows: Selects, count: int) -> Compute:
    def look(indices: Tensor) -> Tensor:
        places = resolved(indices, count)
        return rows.select(places.reshape(-1)).reshape(*indices.shape, -1)

    return look
