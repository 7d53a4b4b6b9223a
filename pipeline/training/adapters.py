"""Adapters of low rank (LoRA): the linear maps of a student stay as they are, and each gets a small sum beside it that is trained.

Here: the sum, which maps get one, and its end in the weights. Not here: what else changes (model.py), where states are kept (state.py).
y = W x + b + (alpha / rank) · B A dropout(x), with A [rank, in] drawn at random and B [out, rank] zero, so that a training starts from the student as
it is (Hu et al. 2021, arXiv:2106.09685 §4.1). A map keeps its own names, so whatever reads a student reads an adapted one.
Where weights are rounded while they are trained (quantization.py) there is no sum beside W: what is rounded, and computed with, is all of
W + (alpha / rank) · B A.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from interlock.errors import UsageError
from pipeline.training.settings import Lora
from runtime.student.model import Linear, Student


class Adapted(Linear):
    """A linear map with its adapter; `weight` and `bias` are those of the map, the same memory. `lora_A`, `lora_B`: fp32, named as in `peft`."""

    def __init__(self, plain: nn.Linear, lora: Lora) -> None:
        super().__init__(plain.in_features, plain.out_features, bias=plain.bias is not None, device="meta")
        self.weight, self.bias = plain.weight, plain.bias
        self.scale = lora.alpha / lora.rank
        self.dropout: nn.Module = nn.Dropout(lora.dropout) if lora.dropout else nn.Identity()
        self.lora_A = nn.Parameter(torch.empty(lora.rank, plain.in_features))
        self.lora_B = nn.Parameter(torch.zeros(plain.out_features, lora.rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))  # uniform in ±1/√in, as `peft` draws it

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., in] → [..., out]."""
        if parametrize.is_parametrized(self, "weight"):  # the adapter is in it
            return F.linear(x, self.weight, self.bias)
        return F.linear(x, self.weight, self.bias) + self.scale * F.linear(F.linear(self.dropout(x), self.lora_A), self.lora_B)

    @torch.no_grad()
    def merged(self) -> Linear:
        """The plain map that computes the same without dropout; new memory, for the weight may be mapped from a file."""
        return self.plain(self.summed(self.weight))

    def plain(self, weight: Tensor) -> Linear:
        """A map without adapter that has this weight."""
        made = Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        made.weight, made.bias = nn.Parameter(weight), self.bias
        return made

    def summed(self, weight: Tensor) -> Tensor:
        """weight [out, in] with the adapter's product."""
        return weight + self.scale * (self.lora_B @ self.lora_A)


class Within(nn.Module):
    """The weight of an adapted map with its adapter in it, for what comes after it in a parametrization."""

    def __init__(self, of: Adapted) -> None:
        super().__init__()
        self.of = (of,)  # no submodule: the map has this one

    def forward(self, weight: Tensor) -> Tensor:
        return self.of[0].summed(weight)


def adapt(student: Student, lora: Lora, seed: int) -> None:
    """Give the targets their adapters, the same for the same seed; nothing else of the student is changed any more.

    A target is one or more words that stand in a row in a map's name: `wq`, `attn`, `blocks.0`, `blocks.3.mlp.w1`. Raises UsageError for one that
    names no map of the layers.
    """
    maps = {f"blocks.{name}": one for name, one in student.blocks.named_modules() if isinstance(one, nn.Linear)}
    chosen = {name for target in lora.targets for name in _meant(target, maps)}
    student.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, one in maps.items():
            if name in chosen:
                replace(student, name, Adapted(one, lora))


def merge(student: Student) -> None:
    """Every adapter becomes part of its map's weight: the student is a plain one again. Those in rounded weights have become so before."""
    for name, one in list(student.named_modules()):
        if isinstance(one, Adapted):
            replace(student, name, one.merged())


def _meant(target: str, maps: dict[str, nn.Linear]) -> Sequence[str]:
    found = [name for name in maps if f".{target}." in f".{name}."]
    if not found:
        known = sorted({name.rpartition(".")[2] for name in maps})
        raise UsageError(
            f"`lora.targets` names `{target}`, which is no linear map of the student's layers",
            remedy=f"there are {', '.join(known)} in each layer; `attn` and `mlp` are those of a part, `blocks.0` those of a layer",
        )
    return found


def replace(student: Student, name: str, module: nn.Module) -> None:
    """Put a module where the one of that name is."""
    parent, _, own = name.rpartition(".")
    setattr(student.get_submodule(parent), own, module)
