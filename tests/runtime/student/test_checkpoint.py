"""A checkpoint directory becomes exactly the student that was stored, or says everything that is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fakes.artifacts import describe
from fakes.students import BOTH_HEADS, some_ids, tiny_arch, tiny_student
from safetensors.torch import save_file

from interlock.contracts.checkpoint import TOKENIZER, WEIGHTS, CheckpointContract
from interlock.errors import ContractError
from runtime.student.checkpoint import load_student, random_student


def stored(directory: Path, weights: dict[str, torch.Tensor], dtype: str = "float32") -> CheckpointContract:
    save_file(weights, directory / WEIGHTS)
    (directory / TOKENIZER).write_bytes(b"{}")
    return describe(directory).model_copy(update={"arch": tiny_arch(), "model_arch": BOTH_HEADS, "dtype": dtype})


def test_what_was_stored_is_what_runs(tmp_path: Path) -> None:
    student = tiny_student()
    contract = stored(tmp_path, dict(student.state_dict()))
    loaded = load_student(tmp_path, contract)
    ids = some_ids(student.arch, 1, 16)
    assert torch.equal(loaded(ids).logits, student(ids).logits)
    assert not loaded.training and not any(parameter.requires_grad for parameter in loaded.parameters())


def test_half_weights_are_widened_exactly(tmp_path: Path) -> None:
    halves = {name: tensor.half() for name, tensor in tiny_student().state_dict().items()}
    loaded = load_student(tmp_path, stored(tmp_path, halves, "float16"))
    assert all(tensor.dtype == torch.float32 and torch.equal(tensor, halves[name].float()) for name, tensor in loaded.state_dict().items())
    assert loaded.rope_cos.device.type == "cpu"


def test_every_difference_is_reported_at_once(tmp_path: Path) -> None:
    weights = dict(tiny_student().state_dict())
    del weights["norm_f.weight"]
    weights["surplus.weight"] = torch.zeros(1)
    weights["embed.weight"] = torch.zeros(101, 47)
    weights["blocks.0.norm1.weight"] = torch.zeros(48, dtype=torch.float16)
    with pytest.raises(ContractError) as refusal:
        load_student(tmp_path, stored(tmp_path, weights))
    assert {violation.where for violation in refusal.value.violations} == {"norm_f.weight", "surplus.weight", "embed.weight", "blocks.0.norm1.weight"}


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, None], ids=["empty", "noise", "absent"])
def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path, content: bytes | None) -> None:
    contract = stored(tmp_path, dict(tiny_student().state_dict()))
    (tmp_path / WEIGHTS).unlink() if content is None else (tmp_path / WEIGHTS).write_bytes(content)
    with pytest.raises(ContractError):
        load_student(tmp_path, contract)


def test_a_random_student_is_its_seed_and_has_unit_scale() -> None:
    before = torch.random.get_rng_state()
    one, same, other = (random_student(tiny_arch(n_layers=12), BOTH_HEADS, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), same.state_dict().values(), strict=True))
    assert not torch.equal(one.embed.weight, other.embed.weight)
    ids = some_ids(one.arch, 4, 64)
    assert 0.5 < one(ids).logits.std().item() < 2
