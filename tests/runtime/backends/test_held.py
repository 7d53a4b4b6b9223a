"""However weights are held, eager says what the student with those values says; without kernels too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes.quantised_checkpoints import kinds_of, write_quantised
from fakes.students import some_ids, tiny_student
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.contracts.checkpoint import BLOCKS, ModelArch
from interlock.errors import ContractError, UsageError
from runtime.backends.checkpoint_codes import checkpoint_codes
from runtime.backends.codes import Codes, joined, rounded
from runtime.backends.eager import EagerBackend, eager_from
from runtime.backends.held import Held, Weights
from runtime.backends.tensors import as_array
from runtime.kernels import library
from runtime.load import checkpoint_weights
from runtime.numerics import psnr_db
from runtime.student.checkpoint import read_weights, student_from
from runtime.student.model import Student

WIDTHS: dict[str, Any] = {"d_model": 64, "n_layers": 2, "d_ff": 96, "vocab_size": 160, "tie_embeddings": True}


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERLOCK_KERNELS", "off")
    monkeypatch.setattr(library, "_loaded", [])


def said(backend: EagerBackend, ids: list[int]) -> torch.Tensor:
    """[V]: after a prompt of all but two, one step, and a batch of one."""
    cache = backend.new_cache()
    backend.prefill(ids[:-2], cache)
    backend.decode(ids[-2], cache)
    return torch.from_numpy(backend.decode_many(ids[-1:], [cache])[0].logits)


def close(backend: EagerBackend, student: Student, least_db: float) -> None:
    ids = some_ids(student.arch, 40).tolist()
    assert psnr_db(student(torch.tensor([ids])).logits[0, -1], said(backend, ids)) >= least_db


def int8_student(student: Student) -> Student:
    """What int8 makes of it, by the formula: round(w · 127 / max|block|) · scale."""

    def value(weight: torch.Tensor) -> torch.Tensor:
        if weight.dim() < 2 or len(weight) <= 2:
            return weight
        blocks = weight.view(len(weight), -1, 32)
        scale = (blocks.abs().amax(2, keepdim=True) / 127).half().float()
        return (torch.round(blocks / scale) * scale).view_as(weight)

    return student_from(student.arch, student.heads, {name: value(weight) for name, weight in student.state_dict().items()})


# Activations of 16 bits per 32 columns: -98 dB and below for each product (half a step of 32512 to the largest); ten in series cost 10 dB.
PACKED_DB = 85


def test_each_form_takes_the_memory_that_the_page_says() -> None:
    """docs/speed.md: 4 bytes a weight, 2, and 1 with 2 for each 32. Rows are padded to 16."""
    student = tiny_student(ModelArch(), **{**WIDTHS, "n_heads": 4, "n_kv_heads": 4})
    count = sum(weight.numel() for weight in student.state_dict().values() if weight.dim() == 2)
    found = {weights: eager_from(student, weights).weight_bytes / count for weights in ("fp32", "bf16", "int8")}
    assert found == {"fp32": 4, "bf16": 2, "int8": 1 + 2 / 32}


@pytest.mark.parametrize("tied", [True, False])
def test_int8_is_the_rounded_student(tied: bool) -> None:
    student = tiny_student(**{**WIDTHS, "tie_embeddings": tied})
    close(eager_from(student, "int8"), int8_student(student), PACKED_DB)


@pytest.mark.usefixtures("no_kernels")
@pytest.mark.parametrize("weights", ["fp32", "bf16", "int8"])
def test_without_kernels_torch_says_the_same_and_that_it_does(weights: Weights) -> None:
    student = tiny_student(**WIDTHS)
    backend = eager_from(student, weights)
    assert backend.notes == (f"{weights} weights, multiplied by torch, codes widened to fp32: INTERLOCK_KERNELS is `off`",)
    close(backend, int8_student(student) if weights == "int8" else student, 37 if weights == "bf16" else 105)
    caches = [backend.new_cache() for _ in range(2)]
    assert len(backend.decode_many([1, 2], caches)) == len(backend.score([1, 2], caches[0])) == 2


@pytest.mark.parametrize("off", [False, True], ids=["kernels", "torch"])
def test_packed_is_the_checkpoint_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off: bool) -> None:
    """Q4_1 and Q4_0 in turn, so that fused matrices differ in kind, and an embedding in Q8_0 that is the head too."""
    if off:
        monkeypatch.setenv("INTERLOCK_KERNELS", "off")
        monkeypatch.setattr(library, "_loaded", [])
    student = tiny_student(ModelArch(use_halt_head=True), **WIDTHS)
    kinds = {name: kind for name, kind in kinds_of(student).items() if not name.startswith("halt")}
    contract = write_quantised(tmp_path / "made", student, kinds)
    weights = read_weights(tmp_path / "made", contract)
    codes = checkpoint_codes(tmp_path / "made", contract)
    for name in kinds:
        found = codes(name)
        assert found is not None
        torch.testing.assert_close(torch.from_numpy(found.values()), weights[name], rtol=1e-6, atol=1e-7)
    close(EagerBackend(student.arch, student.heads, Held(lambda name: as_array(weights[name]), "packed", codes)), student, PACKED_DB)


def test_a_weight_without_codes_is_held_exactly(tmp_path: Path) -> None:
    student = tiny_student(ModelArch(), **WIDTHS)
    kinds = dict(list(kinds_of(student).items())[:3])
    contract = write_quantised(tmp_path / "made", student, kinds)
    held = Held(checkpoint_weights(tmp_path / "made", contract).__getitem__, "packed", checkpoint_codes(tmp_path / "made", contract))
    close(EagerBackend(student.arch, student.heads, held), student, PACKED_DB)


def test_a_dense_checkpoint_has_nothing_packed(tmp_path: Path) -> None:
    contract = write_quantised(tmp_path / "made", tiny_student(ModelArch(), **WIDTHS), {})
    dense = contract.model_copy(update={"files": tuple(entry for entry in contract.files if entry.path != BLOCKS)})
    with pytest.raises(UsageError, match="no packed weights"):
        checkpoint_codes(tmp_path / "made", dense)


@pytest.mark.parametrize("harm", ["cut", "missing", "other shape"])
def test_blocks_that_do_not_fit_are_refused(tmp_path: Path, harm: str) -> None:
    from safetensors.torch import load_file, save_file

    student = tiny_student(ModelArch(), **WIDTHS)
    contract = write_quantised(tmp_path / "made", student, kinds_of(student))
    path, name = tmp_path / "made" / BLOCKS, "blocks.1.mlp.w2.weight"
    blocks = load_file(path)
    if harm == "missing":
        del blocks[name]
    else:
        blocks[name] = blocks[name][:, :-1].contiguous() if harm == "cut" else blocks[name][1:].contiguous()
    save_file(blocks, path)
    with pytest.raises(ContractError, match="source_blocks"):
        checkpoint_codes(tmp_path / "made", contract)(name)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.sampled_from([1, 31, 32, 64, 96]), st.integers(0, 2**32), st.sampled_from([1.0, 1e-8, 1e4, 0.0]))
def test_int8_is_within_half_a_step(rows: int, columns: int, seed: int, size: float) -> None:
    weight = size * torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    codes = rounded(weight.numpy())
    block = columns // codes.scale.shape[1]
    largest = weight.view(rows, -1, block).abs().amax(2).repeat_interleave(block, 1)
    # half a step; a scale that fp16 rounds, by 2^-11, moves codes of up to 127 steps and the ends of the range; below 2^-14 steps stay that size
    assert ((torch.from_numpy(codes.values()) - weight).abs() <= largest * (0.5 / 127 + 2.0**-10) + 2.0**-15).all()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 5)), min_size=1, max_size=4), st.integers(0, 2**32))
def test_codes_of_any_forms_stand_below_each_other(parts: list[tuple[int, int]], seed: int) -> None:
    random = np.random.default_rng(seed)

    def made(form: int, rows: int) -> Codes:
        signed, bits, blocks = form in (0, 1), 4 if form in (1, 2) else 8, 2 if form == 4 else 4
        low = -(1 << (bits - 1)) if signed else 0
        codes = random.integers(low, low + (1 << bits), (rows, 64)).astype(np.int8 if signed else np.uint8)
        scale, offset = (random.standard_normal((rows, blocks)).astype(np.float16) for _ in range(2))
        return Codes(codes, scale, None if form == 0 else offset, bits, added=form in (2, 4))

    given_parts = [made(*part) for part in parts]
    whole = joined(given_parts)
    np.testing.assert_allclose(whole.values(), np.concatenate([part.values() for part in given_parts]), rtol=1e-5, atol=1e-3)
