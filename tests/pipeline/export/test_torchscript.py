"""The files are functions of tensors, the same everywhere, small, and they say truly what they take."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from fakes.exported_students import export_student, storable
from fakes.students import some_ids, tiny_arch, tiny_student
from torch.testing import assert_close

from interlock.contracts.checkpoint import ModelArch
from interlock.contracts.export import DECODE, PREFILL
from interlock.errors import ContractError, StageFailed
from pipeline.export import torchscript
from runtime.backends.torchscript_file import load_torchscript
from runtime.student.model import Student

HALT = ModelArch(use_halt_head=True)


@pytest.fixture(params=[HALT, ModelArch()], ids=["halt head", "no halt head"])
def student(request: pytest.FixtureRequest) -> Student:
    return storable(tiny_student(request.param))


def caches(student: Student, slots: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    return [cache.to(dtype) for cache in torchscript.caches(student.arch, slots)]


@pytest.mark.parametrize("length", [1, 2, 5, 33, 300])
def test_forward_equals_the_student_at_lengths_it_was_not_traced_on(student: Student, length: int, tmp_path: Path) -> None:
    module = load_torchscript(export_student(student, tmp_path).files[PREFILL])
    ids = some_ids(student.arch, 1, length).int()
    expected = student(ids)
    logits, *halt = module(ids)
    assert_close(logits, expected.logits, rtol=1e-4, atol=1e-5)
    assert len(halt) == student.heads.use_halt_head
    if halt:
        assert_close(halt[0], expected.halt_logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("length", "padded", "slots"), [(1, 1, 40), (5, 5, 48), (37, 64, 96), (100, 128, 257)])
def test_cached_methods_continue_the_uncached_model(student: Student, length: int, padded: int, slots: int, tmp_path: Path) -> None:
    """A right-padded prompt, then single tokens: logits, halt and hidden are those of the whole sequence, at every step."""
    exported = export_student(student, tmp_path)
    prefill, decode = load_torchscript(exported.files[PREFILL]), load_torchscript(exported.files[DECODE])
    ids = some_ids(student.arch, 1, length + 12).int()
    expected = student.hidden(ids)
    cache, positions = caches(student, slots), torch.arange(slots, dtype=torch.int32)
    prompt = torch.cat([ids[:, :length], torch.zeros(1, padded - length, dtype=torch.int32)], dim=1)
    steps = [prefill.prefill(prompt, positions[:padded], positions[length - 1 : length], *cache)]
    steps += [decode(ids[:, at : at + 1], positions[at : at + 1], *cache) for at in range(length, length + 12)]
    for at, outputs in enumerate(steps, start=length - 1):
        hidden = expected[:, at : at + 1]
        assert_close(outputs[-1], hidden, rtol=1e-4, atol=1e-5)
        assert_close(outputs[0], student.logits(hidden), rtol=1e-4, atol=1e-5)
        if student.heads.use_halt_head:
            assert_close(outputs[1], student.halt(hidden[:, 0]), rtol=1e-4, atol=1e-5)


def test_cache_may_be_fp16(tmp_path: Path) -> None:
    student = storable(tiny_student(HALT))
    prefill = load_torchscript(export_student(student, tmp_path).files[PREFILL])
    ids, positions = some_ids(student.arch, 1, 20).int(), torch.arange(20, dtype=torch.int32)
    outputs = prefill.prefill(ids, positions, positions[-1:], *caches(student, 32, torch.float16))
    assert_close(outputs[-1], student.hidden(ids)[:, -1:], rtol=0, atol=5e-3)  # keys and values rounded to 11 bits


def test_file_stores_half_the_bytes_and_a_tied_weight_once(tmp_path: Path) -> None:
    student = tiny_student(HALT, tie_embeddings=True, vocab_size=5000, max_position=64)
    parameters = sum(parameter.numel() for parameter in student.parameters())
    path = export_student(student, tmp_path).files[PREFILL]
    with zipfile.ZipFile(path) as archive:
        data = sum(info.file_size for info in archive.infolist() if "/data/" in info.filename)
    tables = 2 * 64 * 8 * 4
    assert data == 2 * parameters + tables
    assert {buffer.dtype for buffer in load_torchscript(path).buffers()} == {torch.float32}


def test_saving_leaves_the_student_as_it_was(tmp_path: Path) -> None:
    student = tiny_student(HALT)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    export_student(student, tmp_path)
    after = student.state_dict()
    assert all(torch.equal(after[name], value) and after[name].dtype == value.dtype for name, value in before.items())


def test_bytes_do_not_depend_on_the_process_or_hold_its_paths(tmp_path: Path, root: Path) -> None:
    script = (
        "import sys, warnings; warnings.simplefilter('ignore'); sys.path.insert(0, 'tests')\n"
        "from pathlib import Path; from fakes.exported_students import export_student; from fakes.students import tiny_student\n"
        "export_student(tiny_student(), Path(sys.argv[1]))"
    )
    for seed in ("1", "2"):
        (tmp_path / seed).mkdir()
        subprocess.run([sys.executable, "-c", script, str(tmp_path / seed)], check=True, cwd=root, env={"PYTHONHASHSEED": seed}, timeout=120)
    for name in (PREFILL, DECODE):
        first = (tmp_path / "1" / name).read_bytes()
        assert first == (tmp_path / "2" / name).read_bytes()
        with zipfile.ZipFile(tmp_path / "1" / name) as archive:
            assert not [member for member in archive.namelist() if str(root).encode() in archive.read(member)]


def test_methods_are_read_from_the_file(tmp_path: Path) -> None:
    student = tiny_student(HALT)
    found = export_student(student, tmp_path).signatures
    prefill, decode = found[PREFILL].methods, found[DECODE].methods
    shown = {spec.name: (spec.dtype, spec.shape) for spec in (*prefill["prefill"].inputs, *prefill["prefill"].outputs)}
    cache = ("float32", (3, 2, "C", 16))
    assert shown == {
        "input_ids": ("int32", (1, "T")), "position_ids": ("int32", ("T",)), "last_index": ("int32", (1,)), "k_cache": cache, "v_cache": cache,
        "logits": ("float32", (1, 1, 101)), "halt_logits": ("float32", (1, 2)), "hidden": ("float32", (1, 1, 48)),
    }  # fmt: skip
    assert [(spec.name, spec.shape) for spec in prefill["forward"].outputs] == [("logits", (1, "T", 101)), ("halt_logits", (1, 2))]
    assert [(spec.name, spec.shape) for spec in decode["forward"].inputs[:2]] == [("input_ids", (1, 1)), ("position_ids", (1,))]
    assert set(decode) == {"forward"}


def test_no_halt_head_no_halt_output(tmp_path: Path) -> None:
    signatures = export_student(tiny_student(ModelArch()), tmp_path).signatures
    names = {spec.name for signature in signatures.values() for method in signature.methods.values() for spec in method.outputs}
    assert names == {"logits", "hidden"}


def test_a_weight_beyond_fp16_is_named(tmp_path: Path) -> None:
    student = tiny_student(HALT)
    student.norm_f.weight.data[3] = 1e5
    with pytest.raises(StageFailed, match=r"`norm_f\.weight` holds values beyond 65504"):
        torchscript.save(PREFILL, student, tmp_path / PREFILL)
    assert student.norm_f.weight.dtype == torch.float32


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / PREFILL
    path.write_bytes(b"PK\x03\x04 not an archive")
    with pytest.raises(ContractError, match="a TorchScript archive"):
        load_torchscript(path)
    with pytest.raises(ContractError):
        load_torchscript(tmp_path / "missing.pt")


def test_caches_have_the_shape_of_the_architecture() -> None:
    assert [cache.shape for cache in torchscript.caches(tiny_arch(), 64)] == [(3, 2, 64, 16)] * 2
