"""Reading and writing at places that are data. Source of the semantics: coremltools ops/defs/iOS15 and iOS17, scatter_gather.py.

Places below zero count from the end, as iOS15 and iOS16 define and programs for later targets may not use. Places outside are refused, whatever
`validate_indices` says: what a device does with them is undefined.
"""

from __future__ import annotations

import torch
from torch import Tensor

from runtime.mil.ops.registry import operation

_GATHER = "ops/test_gather.py::test_gather_equals_numpy"
_SCATTER = "ops/test_gather.py::test_scatter_equals_a_loop"
_MODES = frozenset({"add", "div", "max", "min", "mul", "sub", "update"})


@operation("gather", proof=_GATHER, moves=True)
def gather(x: Tensor, indices: Tensor, axis: int = 0, batch_dims: int = 0, validate_indices: bool = False) -> Tensor:
    """x: D; indices: N → D[:axis] + N[batch_dims:] + D[axis+1:]."""
    axis = axis % x.dim()
    places = resolved(indices, x.shape[axis])
    if batch_dims == 0:
        picked = x.index_select(axis, places.reshape(-1))
        return picked.reshape([*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]])
    batch = x.shape[:batch_dims]
    rows = zip(x.reshape(-1, *x.shape[batch_dims:]), places.reshape(-1, *places.shape[batch_dims:]), strict=True)
    picked = torch.stack([gather(part, part_places, axis - batch_dims) for part, part_places in rows])
    return picked.reshape(*batch, *picked.shape[1:])


@operation("gather_along_axis", proof=_GATHER, moves=True)
def gather_along_axis(x: Tensor, indices: Tensor, axis: int = 0, validate_indices: bool = False) -> Tensor:
    """numpy's take_along_axis."""
    return torch.gather(x, axis, resolved(indices, x.shape[axis]))


@operation("gather_nd", proof=_GATHER, moves=True)
def gather_nd(x: Tensor, indices: Tensor, batch_dims: int = 0, validate_indices: bool = False) -> Tensor:
    """indices: [..., K]: the first K places behind the batch dimensions."""
    if batch_dims == 0:
        return x[_columns(x, indices)]
    batch = x.shape[:batch_dims]
    rows = zip(x.reshape(-1, *x.shape[batch_dims:]), indices.reshape(-1, *indices.shape[batch_dims:]), strict=True)
    picked = torch.stack([gather_nd(part, places) for part, places in rows])
    return picked.reshape(*batch, *picked.shape[1:])


@operation("scatter", proof=_SCATTER, mode=_MODES)
def scatter(data: Tensor, indices: Tensor, updates: Tensor, axis: int = 0, mode: str = "add", validate_indices: bool = False) -> Tensor:
    """indices: [C]; updates: data's shape with C at `axis`."""
    axis = axis % data.dim()
    places = resolved(indices, data.shape[axis]).reshape(-1)
    grid = places.reshape([-1 if at == axis else 1 for at in range(data.dim())]).expand(updates.shape)
    return _scatter(data, axis, grid, updates, mode)


@operation("scatter_along_axis", proof=_SCATTER, mode=_MODES)
def scatter_along_axis(data: Tensor, indices: Tensor, updates: Tensor, axis: int = 0, mode: str = "add", validate_indices: bool = False) -> Tensor:
    """numpy's put_along_axis, by mode."""
    axis = axis % data.dim()
    return _scatter(data, axis, resolved(indices, data.shape[axis]), updates, mode)


@operation("scatter_nd", proof=_SCATTER, mode=_MODES)
def scatter_nd(data: Tensor, indices: Tensor, updates: Tensor, mode: str = "add", validate_indices: bool = False) -> Tensor:
    """indices: [..., K]; updates: indices' shape without the last + data's shape[K:]."""
    columns = _columns(data, indices)
    depth = len(columns)
    flat = torch.zeros(indices.shape[:-1], dtype=torch.int64)
    for column, size in zip(columns, data.shape, strict=False):
        flat = flat * size + column
    rows = data.reshape(-1, *data.shape[depth:])
    changes = updates.reshape(flat.numel(), *data.shape[depth:])
    grid = flat.reshape(-1, *[1] * (rows.dim() - 1)).expand(changes.shape)
    return _scatter(rows, 0, grid, changes, mode).reshape(data.shape)


_REDUCE = {"max": "amax", "min": "amin", "mul": "prod"}


def _scatter(data: Tensor, axis: int, places: Tensor, updates: Tensor, mode: str) -> Tensor:
    if mode == "update":
        return data.scatter(axis, places, updates)
    if mode in ("add", "sub"):
        return data.scatter_add(axis, places, updates if mode == "add" else -updates)
    if mode == "div":
        return data / torch.ones_like(data).scatter_reduce(axis, places, updates, "prod")
    return data.scatter_reduce(axis, places, updates, _REDUCE[mode])


def _columns(x: Tensor, indices: Tensor) -> tuple[Tensor, ...]:
    return tuple(resolved(indices[..., column], x.shape[column]) for column in range(indices.shape[-1]))


def resolved(indices: Tensor, size: int) -> Tensor:
    """Places as int64 from the front. Raises ValueError for a place outside [-size, size)."""
    wide = indices.long()
    if wide.numel() and not -size <= int(wide.min()) <= int(wide.max()) < size:
        raise ValueError(f"a place between {int(wide.min())} and {int(wide.max())} in an axis of {size}")
    return torch.where(wide < 0, wide + size, wide)
