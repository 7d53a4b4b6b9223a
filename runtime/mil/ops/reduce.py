"""Reductions, and what else looks at a whole axis: cumulative sums, sorting, the greatest elements.

Source of the semantics: coremltools ops/defs/iOS15/reduction.py, tensor_operation.py; iOS17 adds dtypes and int16 indices.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from runtime.mil.ops.registry import Ints, operation

_PROOF = "ops/test_reduce.py::test_reductions_equal_numpy"
_INDEX_PROOF = "ops/test_reduce.py::test_places_of_the_extremes"


def _product(x: Tensor, axes: Ints, keep: bool) -> Tensor:
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


_REDUCTIONS: dict[str, Callable[[Tensor, Ints, bool], Tensor]] = {
    "reduce_mean": lambda x, axes, keep: x.mean(axes, keep) if x.is_floating_point() else x.double().mean(axes, keep).trunc().to(x.dtype),
    "reduce_sum": lambda x, axes, keep: x.sum(axes, keep),
    "reduce_max": lambda x, axes, keep: x.amax(axes, keep),
    "reduce_min": lambda x, axes, keep: x.amin(axes, keep),
    "reduce_prod": _product,
    "reduce_sum_square": lambda x, axes, keep: (x * x).sum(axes, keep),
    "reduce_l1_norm": lambda x, axes, keep: x.abs().sum(axes, keep),
    "reduce_l2_norm": lambda x, axes, keep: (x * x).sum(axes, keep).sqrt(),
    "reduce_log_sum": lambda x, axes, keep: x.sum(axes, keep).log(),
    "reduce_log_sum_exp": torch.logsumexp,
}


def _register() -> None:
    for name, reduction in _REDUCTIONS.items():
        _reduction(name, reduction)


def _reduction(name: str, reduce: Callable[[Tensor, Ints, bool], Tensor]) -> None:
    @operation(name, proof=_PROOF)
    def run(x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
        every = tuple(range(x.dim()))
        return reduce(x, every if axes is None else axes, keep_dims) if every else reduce(x.reshape(1), (0,), False)


_register()


@operation("reduce_argmax", proof=_INDEX_PROOF)
def reduce_argmax(x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32") -> Tensor:
    """The first place of the greatest element."""
    return torch.argmax(x, axis, keep_dims)


@operation("reduce_argmin", proof=_INDEX_PROOF)
def reduce_argmin(x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32") -> Tensor:
    """The first place of the least element."""
    return torch.argmin(x, axis, keep_dims)


@operation("cumsum", proof="ops/test_reduce.py::test_cumsum")
def cumsum(x: Tensor, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Tensor:
    given = x.flip(axis) if reverse else x
    sums = given.cumsum(axis, dtype=x.dtype)
    sums = sums - given if exclusive else sums
    return sums.flip(axis) if reverse else sums


@operation("argsort", proof="ops/test_reduce.py::test_argsort_and_topk")
def argsort(x: Tensor, axis: int = -1, ascending: bool = False) -> Tensor:
    """Equal elements keep their order."""
    return torch.sort(x, dim=axis, descending=not ascending, stable=True).indices


@operation("topk", proof="ops/test_reduce.py::test_argsort_and_topk")
def topk(
    x: Tensor,
    k: int = 1,
    axis: int = -1,
    ascending: bool = False,
    sort: bool = True,
    return_indices: bool = True,
    output_indices_dtype: str = "int32",
) -> tuple[Tensor, ...]:
    """The k greatest (ascending: least) elements, sorted, with their places; k = -1: all. Of equal ones, the first.

    Without `sort` their order is not promised: sorted is one of the orders.
    """
    places = torch.sort(x, dim=axis, descending=not ascending, stable=True).indices.narrow(axis, 0, x.shape[axis] if k == -1 else k)
    values = torch.gather(x, axis, places)
    return (values, places) if return_indices else (values,)
