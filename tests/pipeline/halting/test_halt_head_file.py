"""A head's file: what was written is read, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes.students import tiny_arch, tiny_student
from safetensors.torch import save_file

from interlock.contracts.checkpoint import ModelArch
from interlock.errors import ContractError, UsageError
from pipeline.halting import head
from pipeline.halting.shipped import SHIPPED, find

FACTS = head.HeadFacts(backbone="a" * 64, threshold=0.9, knows=("capital",), seed=7, answers=10, l2=0.01, evidence={"auc": 0.9})


def made(width: int = 48, **facts: Any) -> head.Head:
    chance = torch.Generator().manual_seed(0)
    return head.Head(torch.randn(2, width, generator=chance), torch.randn(2, generator=chance), FACTS.model_copy(update=facts))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    head.write(tmp_path / "a.safetensors", made())
    read = head.read(tmp_path / "a.safetensors")
    assert read.facts == FACTS and torch.equal(read.weight, made().weight) and torch.equal(read.bias, made().bias)
    said = read.training()
    assert said.halt is not None and (said.halt.reads, said.halt.threshold, said.halt.backbone) == ("sentence_end", 0.9, "a" * 64)
    assert said.latent is None and said.halt.knows == ("capital",) and said.halt.evidence == {"auc": 0.9}


def rewritten(file: Path, change: Callable[[dict[str, torch.Tensor], dict[str, Any]], None]) -> None:
    tensors, facts = dict(made().tensors), FACTS.model_dump(mode="json")
    change(tensors, facts)
    save_file(tensors, file, {head.METADATA: json.dumps(facts)})


BAD: dict[str, tuple[Callable[[dict[str, torch.Tensor], dict[str, Any]], object], str]] = {
    "one tensor": (lambda tensors, facts: tensors.pop("halt_head.bias"), "the tensors"),
    "another tensor": (lambda tensors, facts: tensors.update(other=torch.zeros(1)), "the tensors"),
    "another type": (lambda tensors, facts: tensors.update({"halt_head.weight": torch.zeros(2, 48).half()}), "fp32 with two rows"),
    "three rows": (lambda tensors, facts: tensors.update({"halt_head.weight": torch.zeros(3, 48)}), "fp32 with two rows"),
    "no number": (lambda tensors, facts: tensors.update({"halt_head.bias": torch.tensor([0.0, torch.nan])}), "finite numbers"),
    "no backbone": (lambda tensors, facts: facts.pop("backbone"), "backbone"),
    "an unknown field": (lambda tensors, facts: facts.update(more=1), "more"),
    "a threshold of 1": (lambda tensors, facts: facts.update(threshold=1.0), "threshold"),
    "another gate": (lambda tensors, facts: facts.update(gate="slot"), "gate"),
}


@pytest.mark.parametrize("name", BAD)
def test_another_file_is_refused_and_says_where(name: str, tmp_path: Path) -> None:
    change, told = BAD[name]
    rewritten(tmp_path / "bad.safetensors", change)  # type: ignore[arg-type]  # what it returns is not used
    with pytest.raises(ContractError) as refused:
        head.read(tmp_path / "bad.safetensors")
    assert told in str(refused.value.violations) and refused.value.exit_code == 3


def test_a_file_without_metadata_and_one_too_large_are_refused(tmp_path: Path) -> None:
    save_file(made().tensors, tmp_path / "bare.safetensors")
    with pytest.raises(ContractError, match="what the head was fitted on"):
        head.read(tmp_path / "bare.safetensors")
    save_file({"x": torch.zeros(1 << 19)}, tmp_path / "large.safetensors")
    with pytest.raises(ContractError, match="at most"):
        head.read(tmp_path / "large.safetensors")


def test_another_width_another_backbone_and_a_second_head_are_refused_with_both_named(tmp_path: Path) -> None:
    student = tiny_student(ModelArch())
    digest = head.backbone_digest(student.state_dict())
    head.check_wanted(tmp_path, made(), tiny_arch(), ModelArch())
    head.check_backbone(tmp_path, made(backbone=digest), student.state_dict())
    with pytest.raises(ContractError, match=r"(?s)width 48.*width 47"):
        head.check_wanted(tmp_path, made(47), tiny_arch(), ModelArch())
    with pytest.raises(ContractError, match="without a halt head"):
        head.check_wanted(tmp_path, made(), tiny_arch(), ModelArch(use_halt_head=True))
    with pytest.raises(ContractError, match=f"(?s){digest}.*{'a' * 64}"):
        head.check_backbone(tmp_path, made(), student.state_dict())


def test_the_digest_of_a_backbone_sees_every_tensor_and_no_halt_head() -> None:
    weights = {name: tensor.clone() for name, tensor in tiny_student(ModelArch()).state_dict().items()}
    digest = head.backbone_digest(weights)
    assert head.backbone_digest(dict(reversed([*weights.items(), *made().tensors.items()]))) == digest
    for name in ("embed.weight", "blocks.1.attn.wk.weight", "norm_f.weight"):
        changed = {**weights, name: weights[name].clone()}
        changed[name].view(-1)[0] += 1e-3
        assert head.backbone_digest(changed) != digest, name
    assert head.backbone_digest({**weights, "embed.weight": weights["embed.weight"].T}) != digest


def test_heads_go_by_name_or_by_path(tmp_path: Path) -> None:
    assert find("smollm2") == SHIPPED / "smollm2.safetensors"
    head.write(tmp_path / "mine.safetensors", made())
    assert find(str(tmp_path / "mine.safetensors")) == tmp_path / "mine.safetensors"
    for name in ("no-such", "../smollm2", "./none.safetensors"):
        with pytest.raises(UsageError, match="there is no halt head"):
            find(name)


def test_the_shipped_head_is_small_and_says_what_it_is() -> None:
    file = find("smollm2")
    read = head.read(file)
    assert file.stat().st_size < 8 << 10 and read.weight.shape == (2, 576) and torch.equal(read.weight[0], -read.weight[1])
    assert read.facts.gate == "sentence_end" and read.facts.answers >= 4000 and {"cut", "saved", "auc"} <= set(read.facts.evidence)
