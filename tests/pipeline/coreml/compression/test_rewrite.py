"""A rewritten package is the one it was, with other weights: coremltools opens it, and it computes with the values of the forms."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.coreml.compression.stored import Form, Stored, shift_scale
from runtime.mil.program import DataType

pytestmark = pytest.mark.export


def mixed(weight: Any) -> Form | None:
    """Every operation and every type that forms use, and fp16 between them: an offset of integers, one of fp16, a palette."""
    from pipeline.coreml.compression.linear import linear
    from pipeline.coreml.compression.palette import palette

    kind = weight.name.split(".")[-2]
    if kind == "wk":
        return None
    if kind in ("w1", "w3"):
        return palette(weight.values, 4 if kind == "w1" else 6, 16)
    if kind == "wv":
        offset = np.float16(0.5) if "0" in weight.name else np.int8(-1)
        codes = np.rint(np.clip(weight.values.astype(np.float32) * 40, -8, 7)).astype(np.int8)
        return shift_scale("own", codes, np.full((32, 3), 0.025, np.float16), np.full((32, 3), offset), DataType.INT4)
    return linear(weight.values, 4 if kind == "wo" else 8, 32)


@functools.cache
def rewritten(folder: Path) -> tuple[Path, dict[str, Form | None]]:
    from fakes.converted_students import compressible, merged_compressible

    from pipeline.coreml.compression.compress import student_weights
    from pipeline.coreml.compression.rewrite import Weight, rewrite

    forms: dict[str, Form | None] = {}

    def form(weight: Weight) -> Form | None:
        assert weight.name not in forms  # two functions share it: it is made once
        forms[weight.name] = mixed(weight)
        return forms[weight.name]

    weights = student_weights(merged_compressible(), compressible().exported.student, lambda _: None)
    rewrite(merged_compressible(), folder / "new.mlpackage", form, weights, "a test")
    return folder / "new.mlpackage", forms


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rewritten")


def model_of(package: Path) -> Any:
    from coremltools.proto import Model_pb2

    from pipeline.coreml.normal import MODEL

    return Model_pb2.Model.FromString((package / MODEL).read_bytes())


def test_all_but_the_weights_stays(folder: Path) -> None:
    """With values taken out, and constexpr operations read as the constants that they were, both models are the same message."""
    from fakes.converted_students import merged_compressible

    from pipeline.coreml.merge import operations, stored_in

    package, forms = rewritten(folder)
    before, after = model_of(merged_compressible()), model_of(package)
    assert after.description.metadata.userDefined.pop("interlock.compression") == "a test"
    became = 0
    for model in (before, after):
        for function in model.mlProgram.functions.values():
            for operation in operations(next(iter(function.block_specializations.values()))):
                if operation.type.startswith("constexpr_"):
                    became += 1
                    operation.type = "const"
                    operation.ClearField("inputs")
                for value in stored_in(operation):
                    value.blobFileValue.offset = 0
                operation.attributes.pop("val", None)
    assert became == 2 * sum(form is not None for form in forms.values()) and before == after


def test_tables_norms_and_weights_without_a_form_keep_their_bytes(folder: Path) -> None:
    from fakes.by_coremltools import loaded
    from fakes.converted_students import merged_compressible

    package, _ = rewritten(folder)
    before, after = loaded(merged_compressible()).functions["decode"], loaded(package).functions["decode"]
    constants = {operation.name: operation.outputs[0].val for operation in after.operations if operation.op_type == "const"}
    kept = [name for name in constants if any(part in name for part in ("_rope_", "_wk_"))]
    assert len(kept) >= 4
    for operation in before.operations:
        if operation.op_type == "const" and operation.name in constants:
            assert np.array_equal(operation.outputs[0].val, constants[operation.name])


def test_both_functions_share_every_array(folder: Path) -> None:
    from fakes.by_coremltools import blobs

    from pipeline.coreml.merge import stored_values

    package, _ = rewritten(folder)
    functions = model_of(package).mlProgram.functions
    used = [{value.blobFileValue.offset for value in stored_values(functions[name])} for name in ("decode", "prefill_32")]
    assert len(used[0] & used[1]) >= 15 + 12 and len(blobs(package)) == len(used[0] | used[1])


def test_coremltools_reads_the_values_of_every_form(folder: Path) -> None:
    """Its numpy computes in fp16 step by step where the runner rounds once: a rounding of 2^-11 each of the code less its offset, and the product."""
    from fakes.by_coremltools import constants

    package, forms = rewritten(folder)
    theirs = constants(package)
    assert len(theirs) == sum(form is not None for form in forms.values())
    for name, form in forms.items():
        if form is not None:
            (key,) = (key for key in theirs if name.replace(".", "_") in key)
            assert theirs[key].dtype == np.float16
            np.testing.assert_allclose(theirs[key].astype(np.float32), form.values().astype(np.float32), rtol=2**-10)


def test_coremltools_decompresses_it(folder: Path) -> None:
    from pipeline.coreml.messages import collected, load_converter

    ct, _ = load_converter()
    import coremltools.optimize.coreml as cto

    package = one_function(folder)
    with collected():
        dense = cto.decompress_weights(ct.models.MLModel(str(package), skip_model_load=True))
    kinds = {operation.type for operation in next(iter(dense.get_spec().mlProgram.functions["main"].block_specializations.values())).operations}
    assert "linear" in kinds and not any(kind.startswith("constexpr_") for kind in kinds)


def one_function(folder: Path) -> Path:
    from fakes.converted_students import compressible

    from pipeline.coreml.compression.compress import student_weights
    from pipeline.coreml.compression.rewrite import rewrite

    package, into = compressible().packages["decode"], folder / "decode.mlpackage"
    if not into.exists():
        rewrite(package, into, mixed, student_weights(package, compressible().exported.student, lambda _: None), "a test")
    return into


def test_it_computes_what_the_student_with_those_values_computes(folder: Path) -> None:
    """Mode fp32 rounds nothing but what is stored: the RoPE tables are fp16 in the package, 2^-12 from the student's, and turn queries and keys."""
    import torch
    from fakes.converted_students import compressible
    from fakes.students import some_ids

    from runtime.mil import Runner, open_package
    from runtime.student.checkpoint import student_from

    package, forms = rewritten(folder)
    plain = compressible().exported.student
    weights = dict(plain.state_dict())
    weights |= {name: torch.from_numpy(form.values()).float() for name, form in forms.items() if form is not None}
    student = student_from(plain.arch, plain.heads, weights)
    ids = some_ids(plain.arch, 1, 33)
    runner = Runner(open_package(package), "fp32")
    state = runner.new_state("prefill_32")
    given = {"input_ids": ids[:, :32].int().numpy(), "position_ids": np.arange(32, dtype=np.int32), "last_index": np.array([31], np.int32)}
    said = [runner.run("prefill_32", given, state)["logits"]]
    said.append(runner.run("decode", {"input_ids": ids[:, 32:].int().numpy(), "position_ids": np.array([32], np.int32)}, state)["logits"])
    with torch.inference_mode():
        wanted, dense = (each.logits(each.hidden(ids))[0, 31:].numpy() for each in (student, plain))
    np.testing.assert_allclose(np.concatenate(said, 1)[0], wanted, atol=1e-3 * float(np.abs(wanted).max()))
    assert np.abs(wanted - dense).max() > 5e-2 * np.abs(dense).max()  # the forms do change the numbers


def test_writing_again_gives_the_same_bytes_in_normal_form(folder: Path, tmp_path: Path) -> None:
    from pipeline.coreml.normal import normalise, tree_digest

    package, _ = rewritten(folder)
    first = tree_digest(package)
    assert tree_digest(rewritten(tmp_path)[0]) == first
    normalise(package)
    assert tree_digest(package) == first


def toy(path: Path, values: NDArray[np.float16]) -> Path:
    """A weight inside the branches of a `cond`, and its bytes once more as a constant of rank 3."""
    from pipeline.coreml.messages import collected, load_converter
    from pipeline.coreml.normal import normalise

    ct, _ = load_converter()
    with collected():
        from coremltools.converters.mil import Builder as mb
        from coremltools.converters.mil.mil import types

        @mb.program(input_specs=[mb.TensorSpec((1, 64), types.fp16)], opset_version=ct.target.iOS18)  # type: ignore[untyped-decorator]
        def branches(x: Any) -> Any:
            positive = mb.greater(x=mb.reduce_sum(x=x, axes=[0, 1], keep_dims=False), y=np.float16(0))
            inner = mb.cond(pred=positive, _true_fn=lambda: mb.linear(x=x, weight=values), _false_fn=lambda: mb.mul(x=x, y=np.float16(2)))
            return mb.add(x=inner, y=mb.reduce_sum(x=mb.mul(x=x, y=values[None]), axes=[0, 1, 2], keep_dims=False))

        ct.convert(branches, minimum_deployment_target=ct.target.iOS18, skip_model_load=True).save(str(path))
    normalise(path)
    return path


def test_nested_blocks_are_visited_and_constants_of_another_shape_are_not_taken(tmp_path: Path) -> None:
    from fakes.by_coremltools import loaded

    from pipeline.coreml.compression.linear import linear
    from pipeline.coreml.compression.rewrite import digest_of, rewrite, weights_of
    from pipeline.coreml.merge import merge_functions
    from runtime.mil import Runner, open_package

    values = np.random.default_rng(0).normal(0, 0.1, (64, 64)).astype(np.float16)
    # merged, so that equal bytes are stored once
    merge_functions({"main": toy(tmp_path / "parts.mlpackage", values)}, "main", tmp_path / "toy.mlpackage", lambda _: None)
    weights = weights_of(tmp_path / "toy.mlpackage", {digest_of(values): "w"})
    assert [weight.name for weight in weights] == ["w"]
    form = linear(values, 4, 32)
    rewrite(tmp_path / "toy.mlpackage", tmp_path / "new.mlpackage", lambda _: form, weights, "int4")
    loaded(tmp_path / "new.mlpackage")
    runner = Runner(open_package(tmp_path / "new.mlpackage"), "fp32")
    for sign in (1, -1):
        x = sign * np.linspace(0.1, 1, 64, dtype=np.float16)[None]
        (found,) = runner.run("main", {"x": x}).values()
        wide, kept = x.astype(np.float32), float((x.astype(np.float32) * values.astype(np.float32)).sum())
        inner = wide @ form.values().astype(np.float32).T if sign > 0 else 2 * wide
        np.testing.assert_allclose(found, inner + kept, rtol=1e-4, atol=1e-4)


def test_a_stored_array_says_what_was_put_in() -> None:
    values = np.array([[-8, 7, 0], [1, -1, 3]], np.int16)
    stored = Stored.of(values, DataType.INT4)
    assert (len(stored.data), stored.padding_bits) == (3, 0) and np.array_equal(stored.array(), values)
    assert Stored.of(values[:1], DataType.INT4).padding_bits == 4 and Stored.of(values, DataType.INT8).padding_bits == 0
