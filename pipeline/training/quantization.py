"""Training under the rounding of a compressed package: every matrix that a conversion would store in fewer bits counts as what it would store.

Here: rounded weights in a student, their gradients, and their end. Not here: the rounding (pipeline/coreml/compression/symmetric.py), which is the
conversion's own. Gradients pass the rounding as if it were not there (straight-through estimator, Bengio et al. 2013, arXiv:1308.3432 §2.3): a scale
covers the greatest weight of its block, so no weight is clipped.
Palettes have no place here: their tables come of a search over all weights, anew for each step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pipeline.coreml.compression.symmetric import INT4_BLOCK, INT8_BLOCK, Bits, fixed, stored
from pipeline.coreml.compression.touched import matrices
from pipeline.training.adapters import Adapted, Within, replace
from pipeline.training.settings import Quantization
from runtime.student.model import Student

# A method's bits, and the elements per scale that a conversion takes where nobody says otherwise.
METHODS: dict[str, tuple[Bits, int]] = {"int8": (8, INT8_BLOCK), "int4": (4, INT4_BLOCK)}
# Matrices that no package has: they end in others.
ADAPTER = ("lora_A", "lora_B")


class _Straight(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, weight: Tensor, bits: Bits, block: int) -> Tensor:
        return stored(weight, bits, block)

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0], None, None


class Rounded(nn.Module):
    """A weight as a package would store it. While `parametrize.cached` is open each weight is rounded once."""

    def __init__(self, bits: Bits, block: int) -> None:
        super().__init__()
        self.bits, self.block = bits, block

    def forward(self, weight: Tensor) -> Tensor:
        """weight: fp32 [N, K] → the same shape, values that fp16 holds."""
        rounded: Tensor = _Straight.apply(weight, self.bits, self.block)  # type: ignore[no-untyped-call]
        return rounded


def group_of(chosen: Quantization) -> int:
    """Elements per scale, 0 for all of a row."""
    return METHODS[chosen.method][1] if chosen.group is None else chosen.group


def quantise(student: Student, chosen: Quantization) -> None:
    """From now on the student computes with rounded matrices; what is trained are the exact ones behind them, or the adapters in them."""
    bits, block = METHODS[chosen.method][0], group_of(chosen)
    for name in matrices(student):
        parent, _, own = name.rpartition(".")
        if own in ADAPTER:
            continue
        module = student.get_submodule(parent)
        if isinstance(module, Adapted):
            parametrize.register_parametrization(module, own, Within(module))
        parametrize.register_parametrization(module, own, Rounded(bits, block))


@torch.no_grad()
def settle(student: Student) -> None:
    """The rounded weights become the student's own, so that the checkpoint is what its package is: storing them again changes no bit. Adapters that
    were in them are part of them then."""
    for name, module in list(student.named_modules()):
        if not parametrize.is_parametrized(module, "weight"):
            continue
        chain = module.get_submodule("parametrizations.weight")
        assert isinstance(chain, parametrize.ParametrizationList)
        *before, rounded = chain
        assert isinstance(rounded, Rounded)
        exact: Tensor = chain.get_parameter("original")
        for one in before:
            exact = one(exact)
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)
        weight = fixed(exact, rounded.bits, rounded.block)
        if isinstance(module, Adapted):
            replace(student, name, module.plain(weight))
        else:
            module.weight = nn.Parameter(weight)
