"""Core ML itself runs on macOS only. Elsewhere: the refusal, and what coremltools says of the interface that the backend uses."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import pytest
from fakes.shell import interlock

from interlock.errors import EnvironmentRefused, UsageError

elsewhere = pytest.mark.skipif(sys.platform == "darwin", reason="Core ML is here")


@elsewhere
def test_without_core_ml_one_error_says_what_is_missing_and_what_works() -> None:
    from runtime.load import load

    with pytest.raises(EnvironmentRefused) as refused:
        load("nowhere", "coreml")
    assert refused.value.exit_code == 4 and "macOS" in refused.value.problem
    assert "macOS 15" in refused.value.required and "--backend reference" in refused.value.remedy


@elsewhere
def test_the_command_line_refuses_before_it_opens_anything(tmp_path: Path) -> None:
    said = interlock("infer", tmp_path, "--prompt", "x", "--backend", "coreml", "--compute-units", "cpu_only")
    assert said.code == 4 and "--backend reference" in said.err and "Traceback" not in said.err


def test_compute_units_belong_to_core_ml() -> None:
    from runtime.load import load

    with pytest.raises(UsageError, match="compute-units"):
        load("nowhere", "reference", units="all")


@pytest.mark.export
def test_every_function_is_opened_by_its_name_with_the_inputs_that_the_backend_gives(tmp_path: Path) -> None:
    """coremltools reads descriptions on any platform: `predict` checks the names of inputs against them."""
    from fakes.converted_students import converted

    from pipeline.coreml.merge import merge_functions
    from runtime.backends.coreml import Functions

    made = tmp_path / "model.mlpackage"
    merge_functions(converted().packages, "decode", made, lambda _: None)
    functions = Functions(made, "cpu_and_ne", load=False)
    wanted = {"decode": {"input_ids", "position_ids"}, "prefill_32": {"input_ids", "position_ids", "last_index"}}
    for name, inputs in wanted.items():
        model = functions.model(name)
        description = next(function for function in model.get_spec().description.functions if function.name == name)
        assert model.function_name == name and model.compute_unit.name == "CPU_AND_NE"
        assert {feature.name for feature in description.input} == inputs
        assert {feature.name for feature in description.state} == {"k_cache", "v_cache"}
        assert functions.model(name) is model


@pytest.mark.export
def test_coremltools_takes_what_the_backend_gives() -> None:
    import coremltools

    model = coremltools.models.MLModel
    assert {"function_name", "compute_units", "skip_model_load"} <= set(inspect.signature(model.__init__).parameters)
    assert list(inspect.signature(model.predict).parameters) == ["self", "data", "state"]
    assert list(inspect.signature(model.make_state).parameters) == ["self"]
