"""What a training changes: the student, and what is thrown away when it ends.

Here: the parts, their parameters and names, what a micro batch asks of them. Not here: losses (objective.py), the loop.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from interlock.errors import UsageError
from pipeline.training import objective
from pipeline.training.adapters import Adapted, adapt, merge
from pipeline.training.examples import Example, Special
from pipeline.training.latent import StepDecoder
from pipeline.training.quantization import quantise, settle
from pipeline.training.settings import Distillation, Settings
from runtime.student.model import Student


class Trained(nn.Module):
    """`student`; with a latent curriculum `decoder` of steps, unless nothing is asked of it; `pause` [d], the constant of that control.
    `trained`: how many elements of the student change."""

    def __init__(self, student: Student, settings: Settings, special: Special, *, control: str | None = None) -> None:
        super().__init__()
        self.student, self.special, self.control, self.recompute = student, special, control, settings.recompute
        if settings.lora is None:
            freeze(student, settings.frozen)
        else:
            adapt(student, settings.lora, settings.seed)
            thaw(student, settings.lora.whole)
        if settings.quantization is not None:
            quantise(student, settings.quantization)
        latent = settings.latent
        self.spans = spans = latent is not None and control != "direct"
        self.slots_per_step = latent.slots_per_step if latent else 1
        self.halts = bool(spans and student.heads.use_halt_head and settings.weights.halt and control is None)
        self.decoder = StepDecoder(student.arch.d_model, latent.step_tokens) if latent and spans and settings.weights.step else None
        # as large as what it stands in for: a normalised hidden state has unit scale in each element
        self.pause = nn.Parameter(torch.ones(student.arch.d_model)) if control == "pause" else None
        self.trained = sum(one.numel() for one in student.parameters() if one.requires_grad)

    def forward(self, rows: Sequence[Example], replaced: int, distilled: Distillation | None) -> dict[str, tuple[Tensor, Tensor]]:
        """The losses of one micro batch with its first `replaced` steps in slots: sum [] and count [] of each. Pairs, because sharding looks for
        tensors in what a module returns."""
        if replaced:
            options = objective.LatentOptions(self.slots_per_step, self.halts, self.decoder, self.pause, self.recompute)
            sums = objective.latent_loss(self.student, rows, self.special, replaced=replaced, options=options)
        else:
            sums = objective.text_loss(self.student, rows, self.special, distilled, recompute=self.recompute)
        return {name: (one.total, one.count) for name, one in sums.items()}

    def changing(self) -> dict[str, Tensor]:
        """What the optimizer changes, by name."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    @contextlib.contextmanager
    def asked(self) -> Iterator[None]:
        """Inside, the student answers as it will when it is trained, and no weight changes; after it training goes on."""
        self.eval()
        try:
            with parametrize.cached():
                yield
        finally:
            self.train()

    def end(self) -> None:
        """Nothing is trained any more: the student becomes what its checkpoint has, a plain one."""
        self.eval()
        settle(self.student)
        merge(self.student)


def freeze(student: Student, parts: Sequence[str]) -> None:
    """Tensors that are named, or stand below a name (`blocks.0`, `embed`), are changed by nothing. Raises UsageError for a name of none, and for
    all."""
    for part in parts:
        for one in _below(student, part, "frozen"):
            one.requires_grad_(False)
    if parts and not any(one.requires_grad for one in student.parameters()):
        raise UsageError("`frozen` names every part of the student: nothing is left to train", remedy="leave one out")


def thaw(student: Student, parts: Sequence[str]) -> None:
    """Parts of an adapted student that are trained as they are. Raises UsageError for a name of none, and for what has an adapter."""
    for part in parts:
        parameters = _below(student, part, "lora.whole")
        if any(isinstance(one, Adapted) and f"{name}.".startswith(f"{part}.") for name, one in student.named_modules()):
            raise UsageError(f"`{part}` is in `lora.whole` and has adapters too", remedy="leave it out, or name other `lora.targets`")
        for one in parameters:
            one.requires_grad_(True)


def _below(student: Student, part: str, setting: str) -> list[nn.Parameter]:
    found = [one for name, one in student.named_parameters() if name == part or name.startswith(f"{part}.")]
    if not found:
        known = sorted({name.partition(".")[0] for name, _ in student.named_parameters()})
        raise UsageError(
            f"`{setting}` names `{part}`, which is no part of this student", remedy=f"it has {', '.join(known)}, and what is below these"
        )
    return found


def decayed(name: str, parameter: Tensor) -> bool:
    """Weight decay is for matrices: norms and biases are scales and offsets, which zero would not make simpler."""
    return parameter.dim() > 1
