"""A checkpoint or deployed directory, opened to be asked many dialogues at a time.

Here: opening. Not here: the batches (decode.py), the files (answers.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from interlock.contracts import checkpoint, deployment, export, io
from interlock.contracts.checkpoint import ModelArch
from interlock.errors import refuse
from interlock.voice import Voice
from pipeline.driver import stage
from pipeline.halting.answers import Answer, collect
from pipeline.halting.decode import Batched
from pipeline.halting.dialogues import Dialogue
from pipeline.halting.head import backbone_digest
from pipeline.stages.calibrate import check_head
from runtime.backends.products import Dtype
from runtime.backends.tensors import as_tensor
from runtime.engine.tokenizer import Tokenizer
from runtime.load import exported_weights
from runtime.student.checkpoint import load_student, student_from


@dataclass(frozen=True)
class Asked:
    """A frozen student that can be asked. `backbone` is the digest of its weights, a halt head's own left out."""

    model: Batched
    tokenizer: Tokenizer
    backbone: str

    def answers(self, dialogues: Sequence[Dialogue], folder: Path, voice: Voice) -> list[Answer]:
        """See pipeline.halting.answers.collect."""
        return collect(self.model, self.tokenizer, self.backbone, dialogues, folder, voice)


def open_checkpoint(directory: Path, voice: Voice, dtype: Dtype = "bfloat16") -> Asked:
    """Raises ContractError for a directory that is no sound checkpoint with a tokenizer, EnvironmentRefused for one that no stage would take."""
    contract = stage.read_input(directory, checkpoint.CheckpointContract, voice)
    if contract.tokenizer is None or not contract.tokenizer.eos_ids:
        file = directory / checkpoint.FILE
        raise refuse(file, "/tokenizer", expected="a tokenizer with an end token", found="none", remedy="import it with --tokenizer DIR")
    with voice.task(f"load {directory}"):
        student = load_student(directory, contract)
        return Asked(Batched(student, dtype), Tokenizer.load(directory, contract.tokenizer), backbone_digest(student.state_dict()))


def open_deployment(directory: Path, voice: Voice, dtype: Dtype = "bfloat16") -> tuple[Asked, bool]:
    """The student that a deployed directory's files hold, weights as they were rounded for export; and whether it is a toy.

    Raises ContractError, also where it has no halt head that reads sentence ends.
    """
    manifest = io.read_contract(directory / deployment.FILE, deployment.DeploymentContract)
    manifest = stage.read_input(directory, deployment.DeploymentContract, voice, toy=manifest.toy)
    exported = io.read_parts(directory, manifest)[export.FILE]
    assert isinstance(exported, export.ExportContract)
    check_head(directory, exported)
    arch, heads = exported.arch, ModelArch(use_halt_head=True)
    with voice.task(f"load {directory}"):
        load = exported_weights(directory / export.PREFILL)
        student = student_from(arch, heads, {name: as_tensor(load(name)) for name in arch.weight_shapes(heads)})
        asked = Asked(Batched(student, dtype), Tokenizer.load(directory, manifest.tokenizer), backbone_digest(student.state_dict()))
    return asked, manifest.toy
