"""One training in shares: each process keeps a part of the weights, their gradients and moments (FSDP2, torch.distributed.fsdp.fully_shard).

Here: a copy in shares, whole tensors of it, shares of whole tensors. Not here: processes and plain sums (ranks.py), the order of things (loop.py).
A layer is gathered when a pass reaches it, forward and backward, and let go after it; embedding, head and norms stay gathered for a micro batch.
Gradients are added, not averaged: losses are divided by counts over all processes already. Every function here is one that all processes call, in the
same order. torch's modules for this are imported where they are used: they take a second, of which a training without shares has no use.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import Tensor

from pipeline.training.model import Trained

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def sharded(trained: Trained) -> Trained:
    """What is trained in place of `trained`: its weights in shares. `trained` has none afterwards, until `gathered` lends it some."""
    from torch import distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    # a layer returns values as a view of its projection; nothing here writes into them, which is what torch warns of
    warnings.filterwarnings("ignore", r"FSDP2-wrapped module \(\w+\) returned a view tensor", UserWarning)
    own = copy.deepcopy(trained)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for part in (*own.student.blocks, own):
        fully_shard(part, mesh=mesh)
    for part in own.modules():
        if isinstance(part, FSDPModule):
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)  # gloo adds, and knows no mean
    _let_go(trained)
    return own


@torch.no_grad()
def gather(shares: Trained, trained: Trained, other: Mapping[str, Tensor] | None = None) -> None:
    """Give `trained` whole weights: those of `other` by name, else those in `shares`."""
    parameters = dict(trained.named_parameters())
    for name, share in shares.named_parameters():
        parameters[name].data = whole((other or {}).get(name, share)).detach()


@contextlib.contextmanager
def gathered(shares: Trained, trained: Trained, other: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, `trained` has whole weights."""
    gather(shares, trained, other)
    try:
        yield
    finally:
        _let_go(trained)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that lies in shares; another as it is."""
    return tensor.full_tensor() if _in_shares(tensor) else tensor


def like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor as that parameter lies: this process's share of it, or all."""
    if not _in_shares(parameter):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, parameter.device_mesh, parameter.placements, src_data_rank=None)


def _in_shares(tensor: Tensor) -> TypeGuard[DTensor]:
    return hasattr(tensor, "full_tensor")  # of a DTensor alone


def _let_go(trained: Trained) -> None:
    for one in trained.parameters():
        one.data = one.data.new_empty(0)
