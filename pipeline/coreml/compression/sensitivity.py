"""What a change of one weight costs: predicted by gradients, measured by running the changed student.

Here: divergences on a text. Not here: which change is chosen (assignment.py), the changes themselves (linear.py, palette.py, gguf_blocks.py).
For a small change δ of the weights, KL(p ‖ p') ≈ ½ δᵀFδ with Fisher's information F = E[g gᵀ], g the gradient of log p(y) for a y that the model
itself draws (Amari 1998, Natural gradient works efficiently in learning, §2). Draws at different positions are independent and their gradients have
mean zero, so one backward pass over a whole text gives a sum whose square is, on average, the sum of squares: ½ E⟨g, δ⟩² / positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from runtime.numerics import Comparison, compare_logits
from runtime.student.model import Student

# One draw is a square of a normal number: the sum over eight has a relative deviation of 1/2 for one weight, a tenth for the sum over 200.
DRAWS, POSITIONS, MEASURED = 8, 256, 512
Changes = Mapping[str, Sequence[Tensor]]


def predicted(student: Student, ids: Sequence[int], changes: Changes, note: Callable[[str], None]) -> dict[str, list[float]]:
    """Mean KL per position, nats, that each change of each weight alone would cause.

    changes: by weight, several δ of its shape, any float dtype. ids: the text; draw i reads the i-th part of it, POSITIONS long (from the start
    again when it ends). The student's weights are left as they are. Random draws have a fixed seed.
    """
    random = torch.Generator().manual_seed(0)
    parameters = {name: student.get_parameter(name) for name in changes}
    totals = {name: [0.0] * len(list_of) for name, list_of in changes.items()}
    length = min(POSITIONS, len(ids))
    try:
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        for draw in range(DRAWS):
            note(f"sensitivity, draw {draw + 1} of {DRAWS}")
            start = (draw * length) % max(1, len(ids) - length + 1)
            gradients = _drawn_gradient(student, ids[start : start + length], list(parameters.values()), random)
            for (name, list_of), gradient in zip(changes.items(), gradients, strict=True):
                for index, change in enumerate(list_of):
                    totals[name][index] += torch.sum(gradient * change).item() ** 2
    finally:
        for parameter in parameters.values():
            parameter.requires_grad_(False)
    return {name: [total / (2 * DRAWS * length) for total in sums] for name, sums in totals.items()}


def _drawn_gradient(student: Student, ids: Sequence[int], parameters: list[Tensor], random: torch.Generator) -> tuple[Tensor, ...]:
    """The gradient of the log probability of tokens that the student itself draws, one for each position."""
    logits = student.logits(student.hidden(torch.tensor([ids])))[0]
    with torch.no_grad():
        drawn = torch.multinomial(logits.softmax(-1), 1, generator=random)[:, 0]
    return torch.autograd.grad(-F.cross_entropy(logits, drawn, reduction="sum"), parameters)


class Measure:
    """The divergence of a student with other weights from itself, on one text."""

    def __init__(self, student: Student, ids: Sequence[int]) -> None:
        self._student, self._ids = student, torch.tensor([list(ids[:MEASURED])])
        self._reference = self._logits()

    def __call__(self, replaced: Iterator[tuple[str, Tensor]]) -> Comparison:
        """With each (name, fp32 weight) in place of the student's own, which it gets back."""
        kept = {}
        try:
            for name, weight in replaced:
                parameter = self._student.get_parameter(name)
                kept[name] = parameter.data
                parameter.data = weight
            return compare_logits(self._reference, self._logits())
        finally:
            for name, weight in kept.items():
                self._student.get_parameter(name).data = weight

    def _logits(self) -> Tensor:
        with torch.inference_mode():
            return self._student.logits(self._student.hidden(self._ids))[0]
