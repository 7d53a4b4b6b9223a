"""Operations on single elements, with numpy's broadcasting: arithmetic, comparisons, logic, selection, casts.

Not here: activations with parameters (activation.py). Source of the semantics: coremltools ops/defs/iOS15 and iOS17, elementwise_*.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from runtime.mil.budget import affordable
from runtime.mil.ops.registry import operation

_BINARY_PROOF = "ops/test_elementwise.py::test_binary_operations_equal_numpy"
_UNARY_PROOF = "ops/test_elementwise.py::test_unary_operations_equal_torch_in_double"
_PROOF = "ops/test_elementwise.py::test_operations_with_parameters"


def _divide(x: Tensor, y: Tensor) -> Tensor:
    """Integers are divided towards zero, like C: real_div of int32 stays int32."""
    return torch.true_divide(x, y) if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


def _power(x: Tensor, y: Tensor) -> Tensor:
    """Integer powers with a negative exponent are those of numbers rounded towards zero. x² is x·x, the same rounded once, at a tenth of the time."""
    if x.is_floating_point() and y.numel() == 1 and y.dim() <= x.dim() and float(y) == 2:
        return x * x
    return torch.pow(x, y) if x.is_floating_point() else torch.pow(x.double(), y.double()).to(x.dtype)


_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "real_div": _divide,
    "floor_div": torch.floor_divide,
    # the sign of the divisor, as in Python
    "mod": torch.remainder,
    "pow": _power,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "equal": torch.eq,
    "not_equal": torch.ne,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "less": torch.lt,
    "less_equal": torch.le,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
}

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "acos": torch.acos,
    "asin": torch.asin,
    "atan": torch.atan,
    "atanh": torch.atanh,
    "ceil": torch.ceil,
    "cos": torch.cos,
    "cosh": torch.cosh,
    "erf": torch.erf,
    "exp": torch.exp,
    "exp2": torch.exp2,
    "floor": torch.floor,
    "logical_not": torch.logical_not,
    # to the nearest, halves to even
    "round": torch.round,
    "sign": torch.sign,
    "sin": torch.sin,
    "sinh": torch.sinh,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "tan": torch.tan,
    "tanh": torch.tanh,
}


# Pairs of elements from which on a broadcast result is checked: a vector against a vector may be too much.
_LARGE = 1 << 24


def _register() -> None:
    for name, binary in _BINARY.items():
        _binary(name, binary)
    for name, unary in _UNARY.items():
        _unary(name, unary)


def _binary(name: str, compute: Callable[[Tensor, Tensor], Tensor]) -> None:
    @operation(name, proof=_BINARY_PROOF)
    def run(x: Tensor, y: Tensor) -> Tensor:
        if x.numel() * y.numel() > _LARGE and x.shape != y.shape:
            affordable(*np.broadcast_shapes(x.shape, y.shape))
        return compute(x, y)


def _unary(name: str, compute: Callable[[Tensor], Tensor]) -> None:
    @operation(name, proof=_UNARY_PROOF)
    def run(x: Tensor) -> Tensor:
        return compute(x)


_register()


@operation("identity", proof=_PROOF, moves=True)
def identity(x: Tensor) -> Tensor:
    return x


@operation("rsqrt", proof=_PROOF)
def rsqrt(x: Tensor, epsilon: float = 1e-12) -> Tensor:
    return torch.rsqrt(x + epsilon)


@operation("inverse", proof=_PROOF)
def inverse(x: Tensor, epsilon: float = 1e-4) -> Tensor:
    return 1 / (x + epsilon)


@operation("log", proof=_PROOF)
def log(x: Tensor, epsilon: float = 1e-45) -> Tensor:
    return torch.log(x + epsilon)


@operation("clip", proof=_PROOF)
def clip(x: Tensor, alpha: float = -3.4e38, beta: float = 3.4e38) -> Tensor:
    """alpha, beta: the least and the greatest value."""
    return x.clamp(alpha, beta) if x.is_floating_point() else x.double().clamp(alpha, beta).to(x.dtype)


@operation("threshold", proof=_PROOF)
def threshold(x: Tensor, alpha: float) -> Tensor:
    return x.clamp(min=alpha)


@operation("select", proof=_PROOF, moves=True)
def select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(cond.bool(), a, b)


@operation("cast", proof="ops/test_elementwise.py::test_cast")
def cast(x: Tensor, dtype: str) -> Tensor:
    """Floats become integers towards zero. The executor brings the result to the declared type, which is `dtype`."""
    if dtype == "bool":
        return x != 0
    return x.trunc() if x.is_floating_point() and "int" in dtype else x
