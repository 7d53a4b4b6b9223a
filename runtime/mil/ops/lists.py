"""Lists of equal tensors that grow as they are written: what TensorFlow's dynamic loops become.

A list is held as one tensor [length, *element]: its elements have one shape. Source of the semantics: coremltools ops/defs/iOS15/control_flow.py, and
ops/tests for what it leaves open: a new list is zero, and writing beyond its end makes it longer, whatever `dynamic_length` says.
"""

from __future__ import annotations

import torch
from torch import Tensor

from runtime.mil.budget import affordable
from runtime.mil.ops.registry import Ints, Tensors, operation

_PROOF = "ops/test_lists.py::test_lists_grow_as_they_are_written"


@operation("make_list", proof=_PROOF)
def make_list(elem_shape: Tensors, init_length: int = 1, dynamic_length: bool = True, dtype: str = "fp32") -> Tensor:
    """elem_shape: a scalar per dimension. The executor brings the zeros to `dtype`, which is the declared one."""
    return torch.zeros(affordable(init_length, *(int(size) for size in elem_shape)))


@operation("list_length", proof=_PROOF)
def list_length(ls: Tensor) -> Tensor:
    return torch.tensor(ls.shape[0])


@operation("list_read", proof=_PROOF, moves=True)
def list_read(ls: Tensor, index: int) -> Tensor:
    return ls[_inside(ls, (index,))[0]]


@operation("list_gather", proof=_PROOF, moves=True)
def list_gather(ls: Tensor, indices: Ints) -> Tensor:
    """[len(indices), *element]"""
    return ls[list(_inside(ls, indices))]


@operation("list_write", proof=_PROOF, moves=True)
def list_write(ls: Tensor, index: int, value: Tensor) -> Tensor:
    return list_scatter(ls, (index,), value.unsqueeze(0))


@operation("list_scatter", proof=_PROOF, moves=True)
def list_scatter(ls: Tensor, indices: Ints, value: Tensor) -> Tensor:
    """value: [len(indices), *element]; of places that are named twice the last counts."""
    if value.shape[1:] != ls.shape[1:] or value.shape[0] != len(indices) or min(indices, default=0) < 0:
        raise ValueError(f"values of shape {list(value.shape)} at {list(indices)[:9]} of a list of shape {list(ls.shape)}")
    longer = torch.zeros(affordable(max(ls.shape[0], *(index + 1 for index in indices), 0), *ls.shape[1:]), dtype=ls.dtype)
    longer[: ls.shape[0]] = ls
    for index, element in zip(indices, value, strict=True):
        longer[index] = element
    return longer


def _inside(ls: Tensor, indices: Ints) -> Ints:
    """Raises ValueError for a place outside the list: its length is what was written."""
    if any(not 0 <= index < ls.shape[0] for index in indices):
        raise ValueError(f"places {list(indices)[:9]} in a list of {ls.shape[0]}")
    return indices
