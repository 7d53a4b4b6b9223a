"""A checkpoint directory as an import of a GGUF file leaves it: weights that are its blocks' values, and the blocks beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from fakes.gguf_blocks import encoded
from fakes.makers import maker

from interlock.contracts import checkpoint, io
from interlock.contracts.base import InputRef
from runtime.student.blocks import decode
from runtime.student.model import Student


def kinds_of(student: Student) -> dict[str, str]:
    """A kind for every matrix: the embedding Q8_0, the others Q4_1 and Q4_0 in turn."""
    names = [name for name, parameter in student.named_parameters() if parameter.dim() == 2]
    return {name: "Q8_0" if name == "embed.weight" else ("Q4_1", "Q4_0")[at % 2] for at, name in enumerate(names)}


def write_quantised(directory: Path, student: Student, kinds: Mapping[str, str]) -> checkpoint.CheckpointContract:
    """The student's matrices quantised; the student is changed to what the blocks say."""
    from safetensors.torch import save_file

    directory.mkdir(parents=True)
    blocks = {}
    for name, kind in kinds.items():
        parameter = student.get_parameter(name)
        rows = encoded(kind, parameter.data.numpy())
        parameter.data = torch.from_numpy(decode(kind, rows).values().reshape(parameter.shape))
        blocks[name] = torch.from_numpy(rows)
    save_file({name: tensor.clone() for name, tensor in student.state_dict().items()}, directory / checkpoint.WEIGHTS)
    save_file(blocks, directory / checkpoint.BLOCKS)
    return describe(directory, student, kinds)


def describe(directory: Path, student: Student, kinds: Mapping[str, str]) -> checkpoint.CheckpointContract:
    """Write the contract of what is in the directory now."""
    contract = checkpoint.CheckpointContract(
        created_by=maker("import"),
        inputs=(InputRef(kind="source", digest="2" * 64),),
        files=io.entries(directory),
        arch=student.arch,
        model_arch=student.heads,
        dtype="float32",
        parameters=sum(tensor.numel() for tensor in student.state_dict().values()),
        tokenizer=None,
        source=checkpoint.Source(form="gguf", name="toy.gguf", sha256="2" * 64, quantization=dict(kinds)),
    ).sealed()
    assert isinstance(contract, checkpoint.CheckpointContract)
    (directory / checkpoint.FILE).write_bytes(io.pretty(contract))
    return contract
