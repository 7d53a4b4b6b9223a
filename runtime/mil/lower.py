"""Shorter ways to the same bits: what an operation's function does, decided once where parameters and sizes are known before a run.

Here: per operation, a function of its tensors alone. Not here: what operations mean (ops/), calling these in order (code.py). Where a case is not
known to be the same, None: the operation's own function is called.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from operator import methodcaller

import torch
import torch.nn.functional as F
from torch import Tensor

from runtime.mil.ops.registry import OPERATIONS
from runtime.mil.ops.slices import selection
from runtime.mil.plan import Output, Step

Compute = Callable[..., Tensor]
# A function, and the parameters that it takes in this order.
Lowered = tuple[Compute, tuple[str, ...]]
Types = Mapping[str, Output]
Lower = Callable[[Step, Types], Lowered | None]

_BINARY: dict[str, Compute] = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "maximum": torch.maximum, "minimum": torch.minimum, "equal": torch.eq,
    "greater": torch.gt, "greater_equal": torch.ge, "less": torch.lt, "less_equal": torch.le,
}  # fmt: skip
_UNARY: dict[str, Compute] = {"silu": F.silu, "relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "square": torch.square}

# May be larger than what they take: only a declared size was checked before the run (plan.py), else the operation's own function checks it.
_GROWING = frozenset({*_BINARY, "concat"})


def lower(step: Step, types: Types) -> Lowered | None:
    """types: of every value that the step may take."""
    if step.kind in _GROWING and any(_static(output) is None for output in step.outputs):
        return None
    if step.kind in _BINARY:
        return _BINARY[step.kind], ("x", "y")
    if step.kind in _UNARY:
        return _UNARY[step.kind], ("x",)
    special = _SPECIAL.get(step.kind)
    return special(step, types) if special else None


def sizes(step: Step, parameter: str, types: Types) -> tuple[int, ...] | None:
    """The shape of an operand where it is known before a run."""
    if isinstance(fixed := step.fixed.get(parameter), Tensor):
        return tuple(fixed.shape)
    name = next((source.value for source in step.sources if source.parameter == parameter), None)
    return _static(types[name]) if isinstance(name, str) and name in types else None


def _static(output: Output) -> tuple[int, ...] | None:
    shape = output.type.shape
    return None if shape is None or None in shape else tuple(size or 0 for size in shape)


def _is_fixed(step: Step, *parameters: str) -> bool:
    """Whether these are constants or left out."""
    return not any(source.parameter in parameters for source in step.sources)


def _floats(step: Step, parameter: str, types: Types) -> bool:
    name = next((source.value for source in step.sources if source.parameter == parameter), None)
    return isinstance(name, str) and name in types and types[name].carrier.is_floating_point


def _power(step: Step, types: Types) -> Lowered | None:
    """x² as the operation computes it, without looking at the exponent in every run."""
    exponent, shape = step.fixed.get("y"), sizes(step, "x", types)
    if not isinstance(exponent, Tensor) or shape is None or exponent.numel() != 1 or exponent.dim() > len(shape):
        return None
    return (_squared, ("x",)) if _floats(step, "x", types) and float(exponent) == 2 else None


def _squared(x: Tensor) -> Tensor:
    return x * x


def _rsqrt(step: Step, types: Types) -> Lowered | None:
    if not _is_fixed(step, "epsilon"):
        return None
    epsilon = step.fixed.get("epsilon", 1e-12)
    return (lambda x: torch.rsqrt(x + epsilon)), ("x",)


def _mean(step: Step, types: Types) -> Lowered | None:
    axes = step.fixed.get("axes")
    if axes is None or not _is_fixed(step, "keep_dims") or not _floats(step, "x", types) or not sizes(step, "x", types):
        return None
    return methodcaller("mean", axes, step.fixed.get("keep_dims", False)), ("x",)


def _cast(step: Step, types: Types) -> Lowered | None:
    """Between floats: the executor brings the result to the declared type."""
    return (_same, ("x",)) if _floats(step, "x", types) and step.fixed.get("dtype", "").startswith("fp") else None


def _same(x: Tensor) -> Tensor:
    return x


def _reshape(step: Step, types: Types) -> Lowered | None:
    """To the declared shape, where the operation's rule leads there."""
    given, wanted, declared = sizes(step, "x", types), step.fixed.get("shape"), _static(step.outputs[0])
    if given is None or wanted is None or declared is None or math.prod(given) != math.prod(declared):
        return None
    try:
        reached = tuple(OPERATIONS["reshape"].run(torch.empty(given, device="meta"), wanted).shape)
    except RuntimeError:
        return None  # refused when it runs, as any operand that does not fit
    return (methodcaller("reshape", declared), ("x",)) if reached == declared else None


def _transpose(step: Step, types: Types) -> Lowered | None:
    return (methodcaller("permute", step.fixed["perm"]), ("x",)) if "perm" in step.fixed else None


def _expand(step: Step, types: Types) -> Lowered | None:
    axes = step.fixed.get("axes")
    return (methodcaller("unsqueeze", axes[0]), ("x",)) if axes is not None and len(axes) == 1 else None


def _slice(step: Step, types: Types) -> Lowered | None:
    """Of one axis, forwards by 1, between places inside: a view of it."""
    shape = sizes(step, "x", types)
    if shape is None or not _is_fixed(step, "begin", "end", "stride", "begin_mask", "end_mask", "squeeze_mask"):
        return None
    fixed = step.fixed
    options = (fixed.get(name) for name in ("stride", "begin_mask", "end_mask", "squeeze_mask"))
    places = selection(torch.empty(shape, device="meta"), fixed["begin"], fixed["end"], *options)
    cuts = [(axis, part) for axis, part in enumerate(places) if part not in (slice(None, None, 1), slice(0, shape[axis], 1), slice(0, None, 1))]
    if len(cuts) != 1:
        return None
    ((axis, part),) = cuts
    if isinstance(part, int):
        return (methodcaller("select", axis, part), ("x",)) if -shape[axis] <= part < shape[axis] else None
    if part.step != 1:
        return None
    begin, end, _ = part.indices(shape[axis])
    return methodcaller("narrow", axis, begin, max(0, end - begin)), ("x",)


def _concat(step: Step, types: Types) -> Lowered | None:
    axis, interleave = step.fixed.get("axis"), step.fixed.get("interleave", False)
    if axis is None or interleave or not _is_fixed(step, "interleave") or not step.outputs[0].type.shape:
        return None
    (source,) = (source for source in step.sources if source.parameter == "values")
    shapes = [tuple(part.shape) if isinstance(part, Tensor) else _static(types[part]) for part in source.value]
    if not all(shapes):
        return None  # a scalar among them, or a size that is not known
    return (lambda values: torch.cat(values, axis)), ("values",)


def _attention(step: Step, types: Types) -> Lowered | None:
    parameters = ("query", "key", "value", "attn_mask")
    taken = {*step.fixed, *(source.parameter for source in step.sources)}
    return F.scaled_dot_product_attention, tuple(name for name in parameters if name in taken)


_SPECIAL: dict[str, Lower] = {
    "pow": _power,
    "rsqrt": _rsqrt,
    "reduce_mean": _mean,
    "cast": _cast,
    "reshape": _reshape,
    "transpose": _transpose,
    "expand_dims": _expand,
    "slice_by_index": _slice,
    "concat": _concat,
    "scaled_dot_product_attention": _attention,
}
