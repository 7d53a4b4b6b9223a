"""Faster conversion gives the bytes of plain conversion, and leaves coremltools as it was."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fakes.converted_students import SLOTS, converted

from interlock.contracts.export import DECODE
from pipeline.coreml import functions, lean
from pipeline.coreml.messages import load_converter
from pipeline.coreml.normal import tree_digest

pytestmark = pytest.mark.export


def owners() -> dict[str, object]:
    load_converter()
    from coremltools.converters.mil.frontend.torch import ops
    from coremltools.converters.mil.mil.block import Block
    from coremltools.converters.mil.mil.passes import pass_pipeline
    from coremltools.converters.mil.mil.passes.defs.quantization import FP16ComputePrecision
    from coremltools.converters.mil.mil.program import Program

    places = ((FP16ComputePrecision, "fp16_overflow"), (Program, "validate"), (Program, "__str__"), (Block, "_propagate_nonreplaceable_vars"),
              (pass_pipeline, "tqdm"), (ops, "_tqdm"))  # fmt: skip
    return {name: vars(owner)[name] for owner, name in places}


def test_bytes_are_those_of_plain_conversion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = converted()
    monkeypatch.setattr(functions, "lean_conversion", lambda note: contextlib.nullcontext())
    plan = [plan for plan in functions.plan_functions((32,)) if plan.name == "decode"]
    plain, _ = functions.convert_stateful({DECODE: made.exported.files[DECODE]}, made.exported.signatures, plan, SLOTS, tmp_path, lambda _: None)
    assert tree_digest(plain["decode"]) == tree_digest(made.packages["decode"])


def test_everything_is_restored_even_after_a_failure() -> None:
    before = owners()
    with contextlib.suppress(RuntimeError), lean.lean_conversion(lambda _: None):
        assert not {name for name, value in owners().items() if value is before[name]}
        raise RuntimeError
    assert all(value is before[name] for name, value in owners().items())


def constant(value: object) -> SimpleNamespace:
    """An operation with one constant fp32 input, as the pass sees it."""
    var = SimpleNamespace(op=SimpleNamespace(op_type="const", val=SimpleNamespace(val=value)), is_tensor_or_scalar_of=lambda dtype: dtype == "fp32")
    return SimpleNamespace(inputs={"x": var})


@pytest.mark.parametrize(
    "value",
    [
        np.float32(1.0), 3.5, 1e5, -7e4, np.array([], dtype=np.float32), np.array([65504, -65504], dtype=np.float32),
        np.array([1, 65505], dtype=np.float32), np.array([-1e5], dtype=np.float32), np.array([np.inf, 1], dtype=np.float32),
        np.array([-np.inf], dtype=np.float32), np.array([np.nan, 1], dtype=np.float32), np.array([np.nan, 7e4], dtype=np.float32),
        np.array([3e38, 2], dtype=np.float32),
    ],
    ids=str,
)  # fmt: skip
def test_overflow_is_decided_as_coremltools_does(value: object) -> None:
    load_converter()
    from coremltools.converters.mil.mil.passes.defs.quantization import FP16ComputePrecision

    original = FP16ComputePrecision.fp16_overflow
    assert lean._overflow_check(original)(constant(value)) == original(constant(value))


def test_programs_are_still_validated_before_they_are_written() -> None:
    """A pass that breaks the program is caught as before, only later."""
    ct, _ = load_converter()
    from coremltools.converters.mil.backend.nn.passes.handle_unused_inputs import handle_unused_inputs  # the last pass of all
    from coremltools.converters.mil.mil import Builder as mb

    @mb.program(input_specs=[mb.TensorSpec(shape=(4,))])
    def program(x: object) -> object:
        return mb.relu(x=mb.sin(x=x))

    def breaks(self: object, prog: object) -> None:
        sin = next(op for op in prog.functions["main"].operations if op.op_type == "sin")  # type: ignore[attr-defined]
        sin.outputs[0]._child_ops.clear()

    from coremltools.converters.mil.mil.block import InvalidBlockStateError

    with pytest.MonkeyPatch.context() as patch, lean.lean_conversion(lambda _: None), functions.collected():
        patch.setattr(handle_unused_inputs, "apply", breaks)
        with pytest.raises(InvalidBlockStateError):
            ct.convert(program, convert_to="mlprogram", minimum_deployment_target=ct.target.iOS18, skip_model_load=True)
