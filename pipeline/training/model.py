"""What a training changes: the student, and what is thrown away when it ends.

Here: the parts, their parameters and names. Not here: losses, the loop.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from interlock.errors import UsageError
from pipeline.training.examples import Special
from pipeline.training.latent import StepDecoder
from pipeline.training.settings import Settings
from runtime.student.model import Student


class Trained(nn.Module):
    """`student`; with a latent curriculum `decoder` of steps, unless nothing is asked of it; `pause` [d], the constant of that control."""

    def __init__(self, student: Student, settings: Settings, special: Special, *, control: str | None = None) -> None:
        super().__init__()
        self.student, self.special, self.control, self.recompute = student, special, control, settings.recompute
        freeze(student, settings.frozen)
        latent = settings.latent
        self.spans = spans = latent is not None and control != "direct"
        self.slots_per_step = latent.slots_per_step if latent else 1
        self.halts = bool(spans and student.heads.use_halt_head and settings.weights.halt and control is None)
        self.decoder = StepDecoder(student.arch.d_model, latent.step_tokens) if latent and spans and settings.weights.step else None
        # as large as what it stands in for: a normalised hidden state has unit scale in each element
        self.pause = nn.Parameter(torch.ones(student.arch.d_model)) if control == "pause" else None

    def changing(self) -> dict[str, Tensor]:
        """What the optimizer changes, by name."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}


def freeze(student: Student, parts: Sequence[str]) -> None:
    """Tensors that are named, or stand below a name (`blocks.0`, `embed`), are changed by nothing. Raises UsageError for a name of none, and for
    all."""
    for part in parts:
        below = [one for name, one in student.named_parameters() if name == part or name.startswith(f"{part}.")]
        if not below:
            known = sorted({name.partition(".")[0] for name, _ in student.named_parameters()})
            raise UsageError(
                f"`frozen` names `{part}`, which is no part of this student", remedy=f"it has {', '.join(known)}, and what is below these"
            )
        for one in below:
            one.requires_grad_(False)
    if not any(one.requires_grad for one in student.parameters()):
        raise UsageError("`frozen` names every part of the student: nothing is left to train", remedy="leave one out")


def decayed(name: str, parameter: Tensor) -> bool:
    """Weight decay is for matrices: norms and biases are scales and offsets, which zero would not make simpler."""
    return parameter.dim() > 1
