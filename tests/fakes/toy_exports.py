"""A toy export directory with its contract, made by the stage from a checkpoint without a tokenizer. Environment `export` only."""

from __future__ import annotations

from pathlib import Path

from fakes.makers import maker
from fakes.toys import ARCH

from interlock.contracts import io
from interlock.voice import SilentVoice


def toy_export(folder: Path, *, halt_head: bool = False, lengths: tuple[int, ...] = (32,)) -> Path:
    """`folder`/exported, from `folder`/checkpoint."""
    from safetensors.torch import save_file

    from interlock.contracts import checkpoint
    from interlock.contracts.base import InputRef
    from pipeline.driver import stage
    from pipeline.stages import export
    from runtime.student.checkpoint import random_student

    arch, heads = checkpoint.Arch(**ARCH), checkpoint.ModelArch(use_halt_head=halt_head)  # type: ignore[arg-type]  # plain JSON values
    student = random_student(arch, heads, 0)
    made = folder / "checkpoint"
    made.mkdir()
    save_file({name: tensor.clone() for name, tensor in student.state_dict().items()}, made / checkpoint.WEIGHTS)
    contract = checkpoint.CheckpointContract(
        created_by=maker("import"),
        inputs=(InputRef(kind="source", digest="2" * 64),),
        files=io.entries(made),
        arch=arch,
        model_arch=heads,
        dtype="float32",
        parameters=sum(tensor.numel() for tensor in student.state_dict().values()),
        tokenizer=None,
        source=checkpoint.Source(form="random", name="toy", sha256="2" * 64),
    ).sealed()
    (made / checkpoint.FILE).write_bytes(io.pretty(contract))
    params = export.Params(out=folder / "exported", toy=True, checkpoint=made, lengths=lengths, primary=lengths[0])
    stage.run(export.STAGE, params, SilentVoice())
    return folder / "exported"
