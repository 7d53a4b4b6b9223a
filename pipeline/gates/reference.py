"""What a package is compared with: the student in fp32, on real text.

Here: its outputs at any positions of one text. Not here: running packages (stateful.py, stateless.py), the text itself (pipeline/export/prompt.txt).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from runtime.student.model import Student

# Rows at a time: a query attends to nothing after its own part, which saves half of attention on 4096 tokens.
PART = 512


@dataclass(frozen=True)
class Reference:
    """The student on one text. ids: [N]; hidden: fp32 [N, d] after the final norm."""

    student: Student
    ids: tuple[int, ...]
    hidden: Tensor

    @staticmethod
    def of(student: Student, prompt: Sequence[int], length: int) -> Reference:
        """Runs the student once over the longest sequence: it is causal, so every shorter one is a part of it.

        A prompt that is too short (a toy's) is repeated.
        """
        ids = (tuple(prompt) * (length // len(prompt) + 1))[:length]
        arch = student.arch
        caches = torch.zeros(2, arch.n_layers, arch.n_kv_heads, length, arch.d_head)
        with torch.inference_mode():
            return Reference(student, ids, filled(student, ids, caches))

    def outputs(self, positions: Sequence[int] | slice) -> dict[str, Tensor]:
        """What a package must say there: logits [n, V], hidden [n, d] and, with that head, halt_logits [n, 2]."""
        return outputs_of(self.student, self.hidden[positions])


def filled(student: Student, ids: Sequence[int], caches: Tensor) -> Tensor:
    """Run the student over a text. ids: [N]; caches: fp32 [2, L, H_kv, C, D], written at the first N slots. Returns hidden [N, d]."""
    parts = []
    for start in range(0, len(ids), PART):
        end = min(start + PART, len(ids))
        positions = torch.arange(start, end, dtype=torch.int32)
        parts.append(student.extend(torch.tensor([ids[start:end]]), positions, caches[0, :, :, :end], caches[1, :, :, :end])[0])
    return torch.cat(parts)


def outputs_of(student: Student, hidden: Tensor) -> dict[str, Tensor]:
    """hidden: [n, d] → logits [n, V], hidden itself and, with that head, halt_logits [n, 2]."""
    with torch.inference_mode():
        halts = {"halt_logits": student.halt(hidden)} if student.heads.use_halt_head else {}
        return {"logits": student.logits(hidden), "hidden": hidden, **halts}
