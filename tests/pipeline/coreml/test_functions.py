"""Functions of a package, converted from the saved files: their interface, their numbers, their precision."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fakes.converted_students import LENGTHS, SLOTS, converted
from fakes.students import some_ids

from interlock.contracts.export import DECODE, PREFILL
from interlock.contracts.package import Feature
from pipeline.coreml import functions
from pipeline.coreml.facts import read_package
from pipeline.coreml.normal import tree_digest

CACHES = tuple(Feature(name=name, dtype="float16", shape=(2, 2, SLOTS, 16)) for name in ("k_cache", "v_cache"))
LOGITS = Feature(name="logits", dtype="float16", shape=(1, 1, 101))
HALT = Feature(name="halt_logits", dtype="float16", shape=(1, 2))
HIDDEN = Feature(name="hidden", dtype="float16", shape=(1, 1, 48))


def test_a_function_per_length_and_one_for_decoding() -> None:
    plans = functions.plan_functions((512, 128))
    assert [(plan.name, plan.artifact, plan.method, plan.tokens) for plan in plans] == [
        ("prefill_128", PREFILL, "prefill", 128), ("prefill_512", PREFILL, "prefill", 512), ("decode", DECODE, "forward", 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("lengths", "margin", "limit", "slots"), [((64, 128), 64, 4096, 192), ((100,), 1, 4096, 128), ((4096,), 512, 4096, 4096), ((64,), 500, 100, 128)]
)
def test_cache_holds_the_longest_prefill_and_is_a_multiple_of_32(lengths: tuple[int, ...], margin: int, limit: int, slots: int) -> None:
    assert functions.cache_length(lengths, margin, limit) == slots


@pytest.mark.parametrize(
    ("op_type", "sources", "in_fp16"),
    [
        ("pow", [], False), ("reduce_mean", ["pow"], False), ("rsqrt", ["add"], False), ("add", ["reduce_mean", "const"], False),
        ("mul", ["cast", "rsqrt"], False), ("mul", ["const", "mul"], True), ("add", ["linear", "linear"], True), ("linear", ["mul"], True),
    ],
)  # fmt: skip
def test_the_mean_square_of_the_norm_stays_in_fp32(op_type: str, sources: list[str], in_fp16: bool) -> None:
    inputs = {str(i): SimpleNamespace(op=SimpleNamespace(op_type=source)) for i, source in enumerate(sources)}
    assert functions.keeps_range_in_fp16(SimpleNamespace(op_type=op_type, inputs=inputs)) is in_fp16


@pytest.mark.export
@pytest.mark.parametrize("halt", [True, False], ids=["halt head", "no halt head"])
def test_saved_functions_have_the_promised_interface(halt: bool) -> None:
    facts = {name: read_package(path).functions["main"] for name, path in converted(halt=halt).packages.items()}
    assert list(facts) == ["prefill_32", "prefill_64", "decode"]
    for length, function in ((32, facts["prefill_32"]), (64, facts["prefill_64"]), (1, facts["decode"])):
        ids, positions = Feature(name="input_ids", dtype="int32", shape=(1, length)), Feature(name="position_ids", dtype="int32", shape=(length,))
        last = (Feature(name="last_index", dtype="int32", shape=(1,)),) if length > 1 else ()
        assert function.inputs == (ids, positions, *last)
        assert function.outputs == ((LOGITS, HALT, HIDDEN) if halt else (LOGITS, HIDDEN))
        assert (function.states, function.opset) == (CACHES, "CoreML8")


@pytest.mark.export
def test_norm_is_computed_in_fp32_and_the_rest_in_fp16() -> None:
    from coremltools.proto import MIL_pb2, Model_pb2

    model = Model_pb2.Model()
    model.ParseFromString((converted().packages["decode"] / "Data/com.apple.CoreML/model.mlmodel").read_bytes())
    wide = MIL_pb2.FLOAT32
    (block,) = model.mlProgram.functions["main"].block_specializations.values()
    types = {
        kind: {op.outputs[0].type.tensorType.dataType for op in block.operations if op.type == kind}
        for kind in ("pow", "reduce_mean", "rsqrt", "linear")
    }
    assert types == {"pow": {wide}, "reduce_mean": {wide}, "rsqrt": {wide}, "linear": {MIL_pb2.FLOAT16}}


@pytest.mark.export
def test_conversion_does_not_depend_on_the_traced_length(tmp_path: Path) -> None:
    """One short trace serves every length: tracing at the length itself gives the same bytes."""
    made = converted()
    signature = made.exported.signatures[PREFILL]
    method = signature.methods["prefill"]
    module = functions.load_torchscript(made.exported.files[PREFILL])
    with functions.collected():
        inputs = (torch.zeros(1, 32, dtype=torch.int32), torch.arange(32, dtype=torch.int32), torch.tensor([31], dtype=torch.int32))
        traced = torch.jit.trace(functions.Stateful(module, "prefill", (2, 2, SLOTS, 16)), inputs, check_trace=False)  # type: ignore[no-untyped-call]
    options = {"inputs": functions._inputs(method, 32), "states": functions._states(signature, SLOTS)}
    functions._convert(traced, method, "iOS18", options, tmp_path / "full.mlpackage", lambda _: None)
    assert tree_digest(tmp_path / "full.mlpackage") == tree_digest(made.packages["prefill_32"])


@pytest.mark.export
@pytest.mark.parametrize("target", ["iOS16", "iOS18"])
def test_single_layout_is_the_guides(target: functions.Target, tmp_path: Path) -> None:
    made = converted()
    functions.convert_single(
        made.exported.files[PREFILL], made.exported.signatures[PREFILL], LENGTHS, 64, target, tmp_path / "s.mlpackage", lambda _: None
    )
    facts = read_package(tmp_path / "s.mlpackage")
    function = facts.functions["main"]
    assert (facts.default_function, list(facts.functions)) == ("main", ["main"])
    assert function.inputs == (Feature(name="input_ids", dtype="int32", shape=(1, 64), enumerated=((1, 32), (1, 64))),)
    assert [(output.name, output.dtype) for output in function.outputs] == [("logits", "float16"), ("halt_logits", "float16")]
    assert function.states == ()


@pytest.mark.export
def test_progress_names_functions_and_passes() -> None:
    notes = converted().notes
    assert {note.partition(": ")[0] for note in notes} == {"prefill_32", "prefill_64", "decode"}
    assert "decode: add fp16 cast" in notes and "prefill_64: dead code elimination" in notes


@pytest.mark.export
def test_the_saved_prefill_computes_the_students_numbers() -> None:
    """The package, loaded by coremltools into its own MIL and evaluated by its own value inference, operation by operation."""
    made = converted()
    student = made.exported.student
    ids = some_ids(student.arch, 1, 32).int()
    given = {"input_ids": ids.numpy(), "position_ids": np.arange(32, dtype=np.int32), "last_index": np.array([20], dtype=np.int32)}
    outputs = evaluated(made.packages["prefill_32"], given)
    hidden = student.hidden(ids)[:, 20:21]
    assert np.abs(outputs["hidden"] - hidden.numpy()).max() < 2e-2
    assert np.abs(outputs["logits"] - student.logits(hidden).numpy()).max() < 2e-2
    assert np.abs(outputs["halt_logits"] - student.halt(hidden[:, 0]).numpy()).max() < 2e-2


def evaluated(package: Path, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run `main` on numpy arrays, states beginning at zero, by `value_inference` of each operation; states and silu, which have none, by hand."""
    import coremltools as ct
    from coremltools.converters.mil.frontend.milproto.load import load
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil import Function as MilFunction

    model = ct.models.MLModel(str(package), skip_model_load=True)
    program = load(model.get_spec(), model.get_spec().specificationVersion, model.weights_dir).functions["main"]
    states = {name: np.zeros(var.shape, dtype=np.float16) for name, var in program.inputs.items() if name.endswith("_cache")}
    values: dict[str, np.ndarray] = {**given, **states}

    def value_of(var: object) -> object:
        if isinstance(var, (list, tuple)):
            return tuple(value_of(item) for item in var)
        return values.get(var.name, var.val)  # type: ignore[attr-defined]

    with MilFunction({}, opset_version=ct.target.iOS18):
        for op in program.operations:
            kind, inputs = op.op_type, {name: value_of(var) for name, var in op.inputs.items() if var is not None}
            if kind == "const":
                continue
            if kind == "read_state":
                found = values[op.inputs["input"].name]
            elif kind == "coreml_update_state":
                found = values[op.inputs["state"].name] = inputs["value"]  # type: ignore[assignment]
            elif kind == "silu":
                wide = np.asarray(inputs["x"], dtype=np.float32)
                found = (wide / (1 + np.exp(-wide))).astype(np.float16)
            elif kind == "reduce_mean":  # broken for loaded programs with numpy 2.3
                found = np.mean(inputs["x"], axis=tuple(np.atleast_1d(inputs["axes"])), keepdims=True)  # type: ignore[arg-type, call-overload]
            else:
                result = getattr(mb, kind)(**inputs)
                found = result.val
            assert found is not None, kind
            values[op.outputs[0].name] = np.asarray(found)
    return {var.name: values[var.name] for var in program.outputs}
