"""Blocks are carried if they say what the checkpoint says; a file of them that is not what its contract names is refused by file and tensor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.quantised_checkpoints import describe, kinds_of, write_quantised
from fakes.students import compressible_student
from safetensors.torch import load_file, save_file

from interlock.contracts.checkpoint import BLOCKS, CheckpointContract
from interlock.errors import ContractError
from pipeline.coreml.compression.carried import carried
from pipeline.coreml.compression.gguf_blocks import snr_db
from pipeline.coreml.compression.stored import Form
from runtime.student.model import Student

WEIGHT = "blocks.1.attn.wv.weight"
Blocks = dict[str, torch.Tensor]


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, CheckpointContract, Student]:
    student = compressible_student()
    return tmp_path / "checkpoint", write_quantised(tmp_path / "checkpoint", student, kinds_of(student)), student


def refused(made: tuple[Path, CheckpointContract, Student], *texts: str) -> None:
    directory, contract, student = made
    with pytest.raises(ContractError) as caught:
        list(carried(directory, contract, student))
    text = "\n".join(caught.value.lines())
    assert str(directory / BLOCKS) in text and all(word in text for word in texts), text
    assert "import the checkpoint again" in caught.value.remedy


def rewritten(made: tuple[Path, CheckpointContract, Student], change: Callable[[Blocks], object]) -> tuple[Path, CheckpointContract, Student]:
    """The directory with other blocks and a contract that is true of them."""
    directory, contract, student = made
    blocks = load_file(directory / BLOCKS)
    change(blocks)
    save_file(blocks, directory / BLOCKS)
    return directory, describe(directory, student, contract.source.quantization), student


def test_every_weight_that_was_stored_in_blocks_is_carried_at_its_size(made: tuple[Path, CheckpointContract, Student]) -> None:
    directory, contract, student = made
    found = dict(carried(directory, contract, student))
    assert list(found) == list(contract.source.quantization)
    for name, form in found.items():
        assert isinstance(form, Form)
        exact, kind = student.get_parameter(name).data.numpy(), contract.source.quantization[name]
        assert form.label == f"{kind} blocks of 32" and form.values().shape == exact.shape
        if kind == "Q4_1":  # the offset is rounded to fp16
            assert snr_db(exact, form.values().astype(np.float32)) > 70
        else:
            assert np.array_equal(form.values(), exact.astype(np.float16))


def test_a_dense_checkpoint_is_refused_by_its_source(made: tuple[Path, CheckpointContract, Student]) -> None:
    directory, _, student = made
    (directory / BLOCKS).unlink()
    refused((directory, describe(directory, student, {}), student), "none (gguf toy.gguf is dense, or an older import)")


def test_a_missing_file_is_named(made: tuple[Path, CheckpointContract, Student]) -> None:
    (made[0] / BLOCKS).unlink()
    refused(made, "the blocks that the contract names")


@pytest.mark.parametrize("size", [0, 5, 100, -1])
def test_a_cut_file_is_named(made: tuple[Path, CheckpointContract, Student], size: int) -> None:
    path = made[0] / BLOCKS
    path.write_bytes(path.read_bytes()[:size])
    refused(made, "the blocks that the contract names")


@pytest.mark.parametrize("byte", [0, 1, 2, 33, 1900])
def test_any_changed_byte_of_a_block_is_other_values(made: tuple[Path, CheckpointContract, Student], byte: int) -> None:
    def change(blocks: Blocks) -> None:
        blocks[WEIGHT].view(-1)[byte] ^= 0x35

    refused(rewritten(made, change), WEIGHT, "other values")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda rows: rows.flip(0).contiguous(), "other values"),
        (lambda rows: rows[:-1].clone(), "other values"),
        (lambda rows: rows[:, :-1].clone(), "whole blocks of Q4_"),
        (lambda rows: rows[0].clone(), "rows of bytes"),
        (lambda rows: rows.float(), "rows of bytes"),
        (lambda rows: torch.full_like(rows, 0xFF), "other values"),
    ],
    ids=["rows turned around", "a row less", "half a block less", "one row", "floats", "scales that are no numbers"],
)
def test_blocks_of_another_form_are_refused(
    made: tuple[Path, CheckpointContract, Student], change: Callable[[torch.Tensor], torch.Tensor], text: str
) -> None:
    refused(rewritten(made, lambda blocks: blocks.update({WEIGHT: change(blocks[WEIGHT])})), WEIGHT, text)


def test_a_weight_that_the_file_lacks_is_named(made: tuple[Path, CheckpointContract, Student]) -> None:
    refused(rewritten(made, lambda blocks: blocks.pop(WEIGHT)), WEIGHT)


def test_a_weight_that_the_architecture_lacks_is_named(made: tuple[Path, CheckpointContract, Student]) -> None:
    directory, contract, student = made
    refused((directory, describe(directory, student, {**contract.source.quantization, "blocks.9.x": "Q8_0"}), student), "blocks.9.x")


def test_kinds_without_a_form_have_a_reason(made: tuple[Path, CheckpointContract, Student]) -> None:
    directory, contract, student = made
    contract = describe(directory, student, {**contract.source.quantization, WEIGHT: "Q3_K"})
    found = dict(carried(directory, contract, student))
    assert found[WEIGHT] == "Q3_K blocks have no form in a package"
    assert sum(isinstance(form, str) for form in found.values()) == 1
