"""Arrays mapped from files are what the libraries of these formats read, and a file that lies is refused."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes.students import BOTH_HEADS, tiny_student
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interlock.errors import ContractError
from runtime.backends.mapped import exported, safetensors
from runtime.backends.tensors import as_tensor
from runtime.backends.torchscript_file import stored_torchscript


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from pipeline.export import torchscript

    path = tmp_path_factory.mktemp("mapped") / "model_prefill_fp16.pt"
    torchscript.save(path.name, tiny_student(BOTH_HEADS), path)
    return path


def test_an_exported_file_holds_what_torch_reads(archive: Path) -> None:
    found = exported(archive, "")
    module = stored_torchscript(archive)
    expected = dict(module.named_parameters()) | dict(module.named_buffers())
    assert {name for name, tensor in expected.items() if tensor.is_floating_point()} == set(found)
    assert all(torch.equal(as_tensor(array), expected[name]) for name, array in found.items())


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(["a", "b.weight", "c"]),
        st.tuples(st.sampled_from([torch.float32, torch.float16, torch.bfloat16]), st.lists(st.integers(0, 4), max_size=3)),
        min_size=1,
    )
)
def test_safetensors_are_what_the_library_wrote(tmp_path: Path, shapes: dict[str, tuple[torch.dtype, list[int]]]) -> None:
    from safetensors.torch import save_file

    tensors = {name: torch.randn(shape).to(dtype) for name, (dtype, shape) in shapes.items()}
    path = tmp_path / "made.safetensors"
    path.unlink(missing_ok=True)  # what is mapped from it stays
    save_file(tensors, path, {"format": "pt"})
    found = safetensors(path, "")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(as_tensor(found[name]), tensor) for name, tensor in tensors.items())


def _header(**fields: Any) -> bytes:
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | fields
    text = json.dumps({"a": entry}).encode()
    return len(text).to_bytes(8, "little") + text + bytes(8)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"short", (1 << 40).to_bytes(8, "little") + bytes(64), (2).to_bytes(8, "little") + b"[]", _header(data_offsets=[4, 12]),
        _header(data_offsets=[-8, 0]), _header(data_offsets=[0, 4]), _header(shape=[-2]), _header(shape=[2.0]), _header(dtype="I64"),
        _header(shape=None), _header(shape=[1 << 62, 4], data_offsets=[0, 1 << 66]),
    ],
)  # fmt: skip
def test_a_header_that_lies_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "made.safetensors"
    path.write_bytes(content)
    with pytest.raises(ContractError):
        safetensors(path, "")


class _Called:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return print, ("called",)


def _entry(path: Path, name: str, content: bytes, method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(f"made/{name}", content)


def test_a_pickle_calls_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _entry(tmp_path / "made.pt", "data.pkl", pickle.dumps(_Called(), 2))
    with pytest.raises(ContractError, match="print"):
        exported(tmp_path / "made.pt", "")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_of_another_kind_is_refused(tmp_path: Path, method: int) -> None:
    _entry(tmp_path / "made.pt", "other", b"x" * 100, method)
    with pytest.raises(ContractError):
        exported(tmp_path / "made.pt", "")


def test_damage_is_refused_or_changes_numbers_only(archive: Path, tmp_path: Path) -> None:
    """Bytes flipped and cut all over the file: whatever is read lies inside it."""
    whole = archive.read_bytes()
    random = np.random.default_rng(3)
    for _ in range(60):
        harmed = bytearray(whole)
        at = int(random.integers(0, len(whole)))
        harmed[at] ^= 1 << int(random.integers(0, 8))
        path = tmp_path / "harmed.pt"
        path.unlink(missing_ok=True)
        path.write_bytes(harmed if random.random() < 0.7 else harmed[:at])
        try:
            found = exported(path, "")
        except ContractError:
            continue
        assert all(np.isfinite(array[:0]).all() and array.nbytes <= len(whole) for array in found.values())
