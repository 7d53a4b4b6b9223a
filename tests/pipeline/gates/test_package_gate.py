"""The package gate: a true package passes with room to spare, and no planted fault does."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interlock.contracts.package import Evidence, Thresholds
from interlock.errors import InterlockError
from interlock.voice import SilentVoice

pytestmark = pytest.mark.export

PROMPT = [(i * 37) % 61 for i in range(97)]
WEIGHTS = Path("Data/com.apple.CoreML/weights/weight.bin")


@functools.cache
def merged(folder: Path) -> Path:
    """A tiny student with a halt head as one package of three functions."""
    from fakes.converted_students import converted

    from pipeline.coreml.merge import merge_functions

    package = folder / "true.mlpackage"
    merge_functions(converted().packages, "decode", package, lambda _: None)
    return package


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return merged(tmp_path_factory.mktemp("gate"))


def judged(package: Path) -> tuple[tuple[Evidence, ...], list[str]]:
    """Evidence and findings; a package that cannot even be run is a finding, too."""
    from fakes.converted_students import converted

    from pipeline.coreml.facts import read_package
    from pipeline.gates.package import failures, measure

    try:
        with SilentVoice().task("") as task:
            found = measure(package, read_package(package), converted().exported.student, PROMPT, task)
    except InterlockError as error:
        return (), [str(error)]
    return found.evidence, failures(found.evidence, found.repeatable) + list(found.refused)


def test_a_true_package_passes_on_every_output_of_every_function(package: Path) -> None:
    evidence, findings = judged(package)
    assert findings == []
    plain = {(item.function, item.output): item.positions for item in evidence if not item.case}
    # every row of the shortest; after it 64 more steps until the cache is full, 8 after the other, 16 after padding
    rows = {"prefill_32": 32, "prefill_64": 32, "decode": 64 + 8 + 16}
    assert plain == {(function, output): count for function, count in rows.items() for output in ("logits", "halt_logits", "hidden")}
    cases = {(item.function, item.case, item.against) for item in evidence if item.case}
    assert cases == {
        ("prefill_32", "resumed at 32", None),
        ("prefill_32", "resumed at 32", "prefill_64"),
        ("prefill_32", "padded from 20", None),
        ("prefill_32", "other padding", "prefill_32"),
        ("decode", "empty cache", None),
        ("decode", "empty cache", "prefill_32"),
    }
    assert all(item.psnr_db == 200 for item in evidence if item.case == "other padding")


def edited(package: Path, into: Path, change: Callable[[Any], int]) -> Path:
    """A copy whose protobuf `change` has altered in at least one place."""
    from coremltools.proto import Model_pb2

    from pipeline.coreml.normal import MODEL

    shutil.copytree(package, into)
    model = Model_pb2.Model()
    model.ParseFromString((into / MODEL).read_bytes())
    assert change(model.mlProgram) > 0
    (into / MODEL).write_bytes(model.SerializeToString(deterministic=True))
    return into


def operations(program: Any, *kinds: str) -> list[Any]:
    """Operations of these types, of every function, in order."""
    functions = [program.functions[name] for name in sorted(program.functions)]
    return [op for f in functions for op in f.block_specializations[f.opset].operations if not kinds or op.type in kinds]


def floats(program: Any) -> list[tuple[Any, np.ndarray[Any, Any]]]:
    """Small floating constants and the field that holds each."""
    found = []
    for op in operations(program, "const"):
        value = op.attributes["val"]
        tensor = value.immediateValue.tensor
        if value.type.tensorType.dataType == 10 and tensor.WhichOneof("value") == "bytes":
            found.append((tensor.bytes, np.frombuffer(tensor.bytes.values, np.float16)))
        elif value.type.tensorType.dataType == 11 and tensor.WhichOneof("value") == "floats":
            found.append((tensor.floats, np.array(tensor.floats.values, np.float32)))
    return found


def replaced(program: Any, wanted: Callable[[float], bool], by: float) -> int:
    """Every scalar constant that `wanted` picks becomes `by`. Returns how many."""
    count = 0
    for field, values in floats(program):
        if values.size == 1 and wanted(float(values[0])):
            count += 1
            if isinstance(field.values, bytes):
                field.values = np.array([by], np.float16).tobytes()
            else:
                field.values[0] = by
    return count


def mask_dropped(program: Any) -> int:
    return replaced(program, lambda value: value <= -9000, 0.0)


def epsilon_changed(program: Any) -> int:
    return replaced(program, lambda value: 0 < value < 2e-5, 0.5)


def rope_sign_turned(program: Any) -> int:
    changed = operations(program, "sub")
    for op in changed:
        op.type = "add"
    return len(changed)


def activation_swapped(program: Any) -> int:
    changed = operations(program, "silu")[:1]
    for op in changed:
        op.type = "sigmoid"
    return len(changed)


def linear_weights_exchanged(program: Any) -> int:
    """The first two weights of equal shape trade places in one function."""
    seen: dict[str, Any] = {}
    for op in operations(program, "const"):
        value = op.attributes["val"]
        if value.WhichOneof("value") != "blobFileValue" or len(value.type.tensorType.dimensions) != 2:
            continue
        shape = str(value.type)
        other = seen.setdefault(shape, value)
        if other.blobFileValue.offset != value.blobFileValue.offset:
            other.blobFileValue.offset, value.blobFileValue.offset = value.blobFileValue.offset, other.blobFileValue.offset
            return 1
    return 0


def keys_written_as_values(program: Any) -> int:
    changed = operations(program, "write_state")
    names = [op.inputs["input"].arguments[0].name for op in changed]
    for op, name in zip(changed, reversed(names), strict=True):
        op.inputs["input"].arguments[0].name = name
    return int(names != names[::-1])


FAULTS = [mask_dropped, epsilon_changed, rope_sign_turned, activation_swapped, linear_weights_exchanged, keys_written_as_values]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_in_the_program_is_found(package: Path, tmp_path: Path, fault: Callable[[Any], int]) -> None:
    _, findings = judged(edited(package, tmp_path / "wrong.mlpackage", fault))
    assert findings


@pytest.mark.parametrize("place", [0.15, 0.3, 0.45, 0.6, 0.75, 0.9])
def test_a_flipped_exponent_bit_in_the_weights_is_found(package: Path, tmp_path: Path, place: float) -> None:
    wrong = tmp_path / "wrong.mlpackage"
    shutil.copytree(package, wrong)
    data = np.fromfile(wrong / WEIGHTS, np.uint16)
    start = int(len(data) * place)
    # The next ordinary weight from there on (not padding, not a header): its highest exponent bit.
    at = next(i for i in range(start, len(data)) if 0x2000 < (data[i] & 0x7FFF) < 0x3C00 and 0x2000 < (data[i + 1] & 0x7FFF) < 0x3C00)
    data[at] ^= 0x4000
    data.tofile(wrong / WEIGHTS)
    _, findings = judged(wrong)
    assert findings


def test_each_threshold_alone_refuses() -> None:
    from pipeline.gates.package import failures

    good = Evidence(
        function="decode", tokens=1, output="logits", positions=9, finite=True, psnr_db=60, kl_mean=1e-5, kl_max=1e-4, flips=1, decided_flips=0
    )
    limits = Thresholds(psnr_db=50, kl_mean=1e-4, kl_max=1e-3)
    assert failures([good], True, limits) == []
    for change in (
        {"psnr_db": 49.9},
        {"kl_mean": 2e-4},
        {"kl_max": 2e-3},
        {"decided_flips": 1},
        {"finite": False, "psnr_db": None},
        {"kl_mean": None},
    ):
        assert len(failures([good.model_copy(update=change)], True, limits)) == 1, change
    assert failures([good], False, limits)
