"""What a training changes: the student, and what is thrown away when it ends.

Here: the parts, their parameters and names. Not here: losses, the loop.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.training.examples import Special
from pipeline.training.latent import StepDecoder
from pipeline.training.settings import Settings
from runtime.student.model import Student


class Trained(nn.Module):
    """`student`; with a latent curriculum `decoder` of steps, unless nothing is asked of it; `pause` [d], the constant of that control."""

    def __init__(self, student: Student, settings: Settings, special: Special, *, control: str | None = None) -> None:
        super().__init__()
        self.student, self.special, self.control = student, special, control
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


def decayed(name: str, parameter: Tensor) -> bool:
    """Weight decay is for matrices: norms and biases are scales and offsets, which zero would not make simpler."""
    return parameter.dim() > 1
