"""The same conversion for less time and memory: narrow overrides inside coremltools 9.0, undone on leaving.

Here: what is overridden, and why the result cannot differ. Not here: the conversion (functions.py).
Measured on a 135 M model, one function: 43 % of the processor time and 36 % of the peak memory of a plain `ct.convert`, same bytes.
tests/pipeline/coreml/test_lean.py compares the digests.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from pipeline.coreml.merge import operations
from pipeline.coreml.messages import load_converter


@contextlib.contextmanager
def lean_conversion(note: Callable[[str], None]) -> Iterator[None]:
    """Inside: faster passes, no bars on stderr, and `note` is called with the name of each pass as it begins."""
    load_converter()
    from coremltools.converters.mil.frontend.torch import ops
    from coremltools.converters.mil.mil.block import Block
    from coremltools.converters.mil.mil.passes import pass_pipeline
    from coremltools.converters.mil.mil.passes.defs.quantization import FP16ComputePrecision
    from coremltools.converters.mil.mil.program import Program

    overrides = (
        (FP16ComputePrecision, "fp16_overflow", staticmethod(_overflow_check(FP16ComputePrecision.fp16_overflow))),
        (Program, "validate", _last_validation_only(Program.validate)),
        # Both pipelines print the whole program, before and after, into debug messages that nobody receives.
        (Program, "__str__", lambda program: "a program"),
        (Block, "_propagate_nonreplaceable_vars", _compressed_only(Block._propagate_nonreplaceable_vars)),
        (pass_pipeline, "tqdm", _spoken(note)),
        (ops, "_tqdm", _spoken(note)),
    )
    with contextlib.ExitStack() as stack:
        for owner, name, replacement in overrides:
            stack.callback(setattr, owner, name, vars(owner)[name])
            setattr(owner, name, replacement)
        yield


def _overflow_check(original: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """coremltools copies every constant three times to look for values beyond fp16. min and max decide all but the odd case without a copy."""

    def fp16_overflow(op: Any) -> bool:
        return original(op) if any(_may_overflow(var) for var in _variables(op)) else False

    return fp16_overflow


def _variables(op: Any) -> Iterator[Any]:
    for value in op.inputs.values():
        yield from value if isinstance(value, (list, tuple)) else (value,)


def _may_overflow(var: Any) -> bool:
    if var.op is None or var.op.op_type != "const" or not var.is_tensor_or_scalar_of(dtype="fp32"):
        return False
    value = np.asarray(var.op.val.val)
    # NaN makes both comparisons false, so it counts as "may": the original decides, as it does for infinities.
    return bool(value.size) and not (value.min() >= -65504 and value.max() <= 65504)


def _last_validation_only(original: Callable[..., None]) -> Callable[..., None]:
    """The pipelines check the whole program after each of ~90 passes. The checks that look at scopes too stay: after loading, after the dead
    code is gone, and before writing, which sees whatever any pass in between broke."""

    def validate(self: Any, check_essential_scope: bool = False) -> None:
        if check_essential_scope:
            original(self, check_essential_scope=True)

    return validate


def _compressed_only(original: Callable[[Any], None]) -> Callable[[Any], None]:
    """After each pass every variable learns which compressed weights it depends on: none, in a program without compressed weights."""

    def propagate(self: Any) -> None:
        if self.outer_op is not None or any(op.op_type.startswith("constexpr_") for op in operations(self)):
            original(self)

    return propagate


def _spoken(note: Callable[[str], None]) -> Callable[..., Iterator[Any]]:
    """A stand-in for tqdm that tells `note` what begins: the pass by name, or the bar's own description."""

    def bar(items: Iterable[Any], desc: str = "", **_: object) -> Iterator[Any]:
        for item in items:
            note(item.rpartition("::")[2].replace("_", " ") if isinstance(item, str) else desc)
            yield item

    return bar
