"""A toy export directory with its contract, made by the stage from a checkpoint without a tokenizer. Environment `export` only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fakes.makers import maker
from fakes.toys import ARCH

from interlock.contracts import io
from interlock.voice import SilentVoice

if TYPE_CHECKING:
    from runtime.student.model import Student


def toy_export(folder: Path, *, halt_head: bool = False, lengths: tuple[int, ...] = (32,), student: Student | None = None) -> Path:
    """`folder`/exported, from `folder`/checkpoint. student: the toy with random weights where none is given."""
    from safetensors.torch import save_file

    from interlock.contracts import checkpoint
    from interlock.contracts.base import InputRef
    from pipeline.driver import stage
    from pipeline.stages import export
    from runtime.student.checkpoint import random_student

    if student is None:
        student = random_student(checkpoint.Arch(**ARCH), checkpoint.ModelArch(use_halt_head=halt_head), 0)  # type: ignore[arg-type]  # plain JSON values
    made = folder / "checkpoint"
    made.mkdir(parents=True)
    save_file({name: tensor.clone() for name, tensor in student.state_dict().items()}, made / checkpoint.WEIGHTS)
    contract = checkpoint.CheckpointContract(
        created_by=maker("import"),
        inputs=(InputRef(kind="source", digest="2" * 64),),
        files=io.entries(made),
        arch=student.arch,
        model_arch=student.heads,
        dtype="float32",
        parameters=sum(tensor.numel() for tensor in student.state_dict().values()),
        tokenizer=None,
        source=checkpoint.Source(form="random", name="toy", sha256="2" * 64),
    ).sealed()
    (made / checkpoint.FILE).write_bytes(io.pretty(contract))
    params = export.Params(out=folder / "exported", toy=True, checkpoint=made, lengths=lengths, primary=lengths[0])
    stage.run(export.STAGE, params, SilentVoice())
    return folder / "exported"
