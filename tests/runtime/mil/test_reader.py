"""Reading packages: equal to the published classes' view of the same files, and hostile files refused in one clear sentence."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.converted_students import converted
from fakes.programs import opened, save, save_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interlock.errors import ContractError
from runtime.mil import Runner, open_package
from runtime.mil.reader import MODEL
from runtime.mil.schema import SCHEMA
from runtime.mil.wire import Record, decode

pytestmark = [pytest.mark.export, pytest.mark.filterwarnings("ignore")]
BLOBS = "Data/com.apple.CoreML/weights/weight.bin"


@pytest.fixture(scope="module")
def package() -> Path:
    """A program with a stored weight, two outputs and strings."""
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    @mb.program(input_specs=[mb.TensorSpec(shape=(2, 8), dtype=types.fp32)])  # type: ignore[untyped-decorator]
    def model(x: Any) -> Any:
        y = mb.linear(x=x, weight=np.arange(64, dtype=np.float32).reshape(8, 8), bias=np.ones(8, np.float32))
        return mb.gelu(x=y, mode="TANH_APPROXIMATION"), mb.reduce_mean(x=y, axes=[1])

    return save(model)


@pytest.fixture
def copied(package: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(package, tmp_path / "copied.mlpackage"))


def message(path: Path) -> Any:
    from coremltools.proto import Model_pb2

    model = Model_pb2.Model()
    model.ParseFromString((path / MODEL).read_bytes())
    return model


def as_record(found: Any, name: str) -> Record:
    """What the published class holds, in the form of our records; fields outside the table left out where a message is open."""
    record: Record = {}
    known = {field.name: field for field in SCHEMA[name].fields.values()}
    for descriptor, value in found.ListFields():
        field = known.get(descriptor.name)
        if field is None:
            assert SCHEMA[name].open, (name, descriptor.name)
        elif field.is_map:
            inner = SCHEMA[field.message].fields[2]
            record[field.name] = {key: as_record(part, inner.message) if inner.message else part for key, part in value.items()}
        elif field.kind == "message":
            record[field.name] = [as_record(part, field.message) for part in value] if field.repeated else as_record(value, field.message)
        else:
            record[field.name] = list(value) if field.repeated else value
    return record


def trimmed(record: Any) -> Any:
    """Without what the published classes do not tell from absence: a number, string or list that is zero or empty, outside a choice."""
    if isinstance(record, dict):
        return {key: trimmed(value) for key, value in record.items() if isinstance(value, dict) or value not in (0, "", b"", [], 0.0)}
    return [trimmed(item) for item in record] if isinstance(record, list) else record


@pytest.mark.parametrize("name", ["prefill_32", "decode", "single"])
def test_records_equal_those_of_the_published_classes(name: str, package: Path) -> None:
    path = package if name == "single" else converted().packages[name]
    found = decode(SCHEMA, "Model", (path / MODEL).read_bytes())
    assert trimmed(found) == trimmed(as_record(message(path), "Model"))


def test_the_table_of_fields_is_the_published_one() -> None:
    """Numbers, names, kinds and repetition of every field, and every field of the closed messages."""
    from coremltools.proto import FeatureTypes_pb2, MIL_pb2, Model_pb2

    kinds = {1: "double", 2: "float", 3: "int64", 4: "varint", 5: "int32", 8: "bool", 9: "string", 11: "message", 12: "bytes", 14: "varint"}
    published: dict[str, Any] = {}

    def collect(descriptors: Any) -> None:
        for descriptor in descriptors:
            published[descriptor.name] = descriptor
            collect(descriptor.nested_types)

    for module in (Model_pb2, FeatureTypes_pb2, MIL_pb2):
        collect(module.DESCRIPTOR.message_types_by_name.values())
    # nested names that two messages share, and our names for the entries of maps
    entries = {"FunctionEntry", "BlockEntry", "ArgumentEntry", "ValueEntry", "StringEntry"}
    for name, form in SCHEMA.items():
        if name in entries:
            continue
        theirs = {field.number: field for field in published[name].fields}
        assert form.open or set(form.fields) == set(theirs), name
        for number, field in form.fields.items():
            assert (field.name, field.kind) == (theirs[number].name, kinds[theirs[number].type]), (name, number)
            in_choice = theirs[number].containing_oneof
            assert field.choice == (in_choice.name if in_choice else ""), (name, number)


def test_values_are_those_that_were_saved(package: Path) -> None:
    program = open_package(package)
    function = program.functions["main"]
    values = {op.name: op.attributes["val"] for op in function.operations() if op.type == "const"}
    stored = [value for value in values.values() if value.origin]
    assert [value.array().size for value in stored] == [64]
    np.testing.assert_array_equal(stored[0].array(), np.arange(64, dtype=np.float16).reshape(8, 8))
    assert ("TANH_APPROXIMATION",) in [value.content for value in values.values()]
    with pytest.raises(ValueError, match="read-only"):
        stored[0].array()[0, 0] = 1


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8])
def test_packed_weights_of_every_width(bits: int) -> None:
    """Indices of palettes, as stored by coremltools and read back by its own loader."""
    import coremltools as ct
    import torch
    from coremltools.converters.mil.frontend.milproto.load import load

    torch.manual_seed(bits)
    layer = torch.nn.Linear(50, 21).eval().requires_grad_(False)
    traced = torch.jit.trace(layer, torch.zeros(1, 50))
    model = ct.models.MLModel(str(save(traced, inputs=[ct.TensorType(name="x", shape=(1, 50))])), skip_model_load=True)
    kit = ct.optimize.coreml
    palette = kit.OpPalettizerConfig(mode="uniform", nbits=bits, weight_threshold=100)
    path = save_model(kit.palettize_weights(model, kit.OptimizationConfig(global_config=palette)))
    model = ct.models.MLModel(str(path), skip_model_load=True)
    theirs = load(model.get_spec(), model.get_spec().specificationVersion, model.weights_dir).functions["main"]
    (expected,) = (op.indices.val for op in theirs.operations if op.op_type == "constexpr_lut_to_dense")
    (found,) = (op.inputs["indices"][0] for op in open_package(path).functions["main"].operations() if op.type == "constexpr_lut_to_dense")
    np.testing.assert_array_equal(found.array(), np.asarray(expected))  # type: ignore[union-attr]


@pytest.mark.parametrize("target", ["iOS15", "iOS16", "iOS17", "iOS18"])
def test_every_opset_is_known(target: str) -> None:
    from coremltools.converters.mil.mil import Builder as mb

    @mb.program(input_specs=[mb.TensorSpec(shape=(2,))])  # type: ignore[untyped-decorator]
    def model(x: Any) -> Any:
        return mb.relu(x=x)

    assert opened(model, target=target).functions["main"].opset == f"CoreML{int(target[3:]) - 10}"


def edited(path: Path, change: Callable[[Any], None]) -> Path:
    model = message(path)
    change(model)
    (path / MODEL).write_bytes(model.SerializeToString())
    return path


def block(model: Any) -> Any:
    function = model.mlProgram.functions["main"]
    return function.block_specializations[function.opset]


def constants(model: Any) -> list[Any]:
    return [op.attributes["val"] for op in block(model).operations if op.type == "const"]


def stored(model: Any) -> Any:
    return next(value for value in constants(model) if value.WhichOneof("value") == "blobFileValue")


def first(model: Any, kind: str) -> Any:
    return next(op for op in block(model).operations if op.type == kind)


def _rename_output(model: Any) -> None:
    block(model).outputs[0] = "nothing"


def _swap(model: Any) -> None:
    operations = block(model).operations
    moved = [op for op in operations if op.type == "linear"]
    rest = [op for op in operations if op.type != "linear"]
    del operations[:]
    operations.extend([*moved, *rest])


def _immediate(model: Any, change: Callable[[Any], None]) -> None:
    change(next(value for value in constants(model) if value.immediateValue.tensor.ints.values))


HOSTILE: dict[str, tuple[Callable[[Any], Any], str]] = {
    "path escapes": (lambda m: setattr(stored(m).blobFileValue, "fileName", "@model_path/../../../../etc/passwd"), "inside the package"),
    "path is absolute": (lambda m: setattr(stored(m).blobFileValue, "fileName", "/etc/passwd"), "inside the package"),
    "path is missing": (lambda m: setattr(stored(m).blobFileValue, "fileName", "@model_path/weights/other.bin"), "a weight file of the package"),
    "path is a folder": (lambda m: setattr(stored(m).blobFileValue, "fileName", "@model_path/weights"), "a regular file"),
    "offset outside": (lambda m: setattr(stored(m).blobFileValue, "offset", 1 << 40), "inside the file"),
    "offset unaligned": (lambda m: setattr(stored(m).blobFileValue, "offset", 65), "a multiple of 64"),
    "offset in the data": (lambda m: setattr(stored(m).blobFileValue, "offset", 128), "the record of a blob"),
    "another type": (lambda m: setattr(stored(m).type.tensorType, "dataType", 11), "a blob of fp32"),
    "another size": (lambda m: setattr(stored(m).type.tensorType.dimensions[0].constant, "size", 9), "144 bytes for 72 elements"),
    "a huge size": (lambda m: setattr(stored(m).type.tensorType.dimensions[0].constant, "size", 1 << 62), "at most"),
    "rank that is not the dimensions'": (lambda m: setattr(stored(m).type.tensorType, "rank", 3), "2 as dimensions"),
    "unknown type": (lambda m: setattr(stored(m).type.tensorType, "dataType", 99), "a data type of ML Programs"),
    "undefined name": (lambda m: setattr(first(m, "linear").inputs["x"].arguments[0], "name", "y"), "defined before its use"),
    "used before defined": (_swap, "defined before its use"),
    "undefined output": (_rename_output, "as described"),
    "defined twice": (lambda m: block(m).operations.append(first(m, "linear")), "a name that is not in use"),
    "constant of another type than declared": (lambda m: setattr(first(m, "const").outputs[0].type.tensorType, "dataType", 24), "a value of"),
    "too few values": (lambda m: _immediate(m, lambda v: v.immediateValue.tensor.ints.values.pop()), "bytes for"),
    "no values": (lambda m: _immediate(m, lambda v: v.ClearField("immediateValue")), "found nothing"),
    "unknown opset": (lambda m: _opset(m, "CoreML99"), "one of CoreML5"),
    "opset without a block": (lambda m: setattr(m.mlProgram.functions["main"], "opset", "CoreML5"), "one of the blocks"),
    "no program": (lambda m: m.ClearField("mlProgram"), "an ML Program"),
    "an input that is not described": (lambda m: m.description.ClearField("input"), "as described"),
    "an argument of nothing": (lambda m: first(m, "linear").inputs["x"].arguments[0].ClearField("name"), "a name or a value"),
}


def _opset(model: Any, name: str) -> None:
    function = model.mlProgram.functions["main"]
    function.block_specializations[name].CopyFrom(block(model))
    function.opset = name


@pytest.mark.parametrize("name", list(HOSTILE))
def test_a_program_that_contradicts_itself_is_refused(name: str, copied: Path) -> None:
    change, expected = HOSTILE[name]
    with pytest.raises(ContractError) as refused:
        open_package(edited(copied, change))
    assert any(expected in line for line in refused.value.lines()), refused.value.lines()
    assert str(copied) in refused.value.lines()[0]


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_model_is_refused(kept: float, copied: Path) -> None:
    whole = (copied / MODEL).read_bytes()
    (copied / MODEL).write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ContractError):
        open_package(copied)


@pytest.mark.parametrize(
    ("at", "form", "value"),
    [(4, "<I", 3), (64, "<I", 7), (68, "<I", 4), (72, "<Q", 1 << 63), (80, "<Q", 1 << 63), (80, "<Q", 65), (88, "<Q", 5)],
    ids=["version", "sentinel", "type", "bytes", "data outside", "data unaligned", "padding"],
)
def test_a_damaged_weight_file_is_refused(at: int, form: str, value: int, copied: Path) -> None:
    content = bytearray((copied / BLOBS).read_bytes())
    struct.pack_into(form, content, at, value)
    (copied / BLOBS).write_bytes(content)
    with pytest.raises(ContractError):
        open_package(copied)


@pytest.mark.parametrize("kept", [0, 63, 64, 100, 192])
def test_a_truncated_weight_file_is_refused(kept: int, copied: Path) -> None:
    (copied / BLOBS).write_bytes((copied / BLOBS).read_bytes()[:kept])
    with pytest.raises(ContractError):
        open_package(copied)


@pytest.mark.parametrize("part", [BLOBS, "Data/com.apple.CoreML/weights", str(MODEL), "Data/com.apple.CoreML"])
def test_links_are_not_followed(part: str, copied: Path, tmp_path: Path) -> None:
    moved = (copied / part).rename(tmp_path / "elsewhere")
    (copied / part).symlink_to(moved)
    with pytest.raises(ContractError):
        open_package(copied)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(1, 255)), min_size=1, max_size=4))
def test_any_changed_bytes_are_read_or_refused(flips: list[tuple[int, int]], package: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """And what is read either runs or is refused."""
    folder = _scratch(package, tmp_path_factory)
    content = bytearray((package / MODEL).read_bytes())
    for place, mask in flips:
        content[place % len(content)] ^= mask
    (folder / MODEL).write_bytes(content)
    try:
        program = open_package(folder)
        Runner(program).run("main", {"x": np.zeros((2, 8), np.float32)})
    except Exception as problem:
        from interlock.errors import InterlockError

        assert isinstance(problem, InterlockError), repr(problem)


_SCRATCH: list[Path] = []


def _scratch(package: Path, factory: pytest.TempPathFactory) -> Path:
    if not _SCRATCH:
        _SCRATCH.append(Path(shutil.copytree(package, factory.mktemp("flips") / "changed.mlpackage")))
    return _SCRATCH[0]
