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
        parts = []
        with torch.inference_mode():
            for start in range(0, length, PART):
                end = min(start + PART, length)
                positions = torch.arange(start, end, dtype=torch.int32)
                keys, values = caches[0, :, :, :end], caches[1, :, :, :end]
                parts.append(student.extend(torch.tensor([ids[start:end]]), positions, keys, values)[0])
        return Reference(student, ids, torch.cat(parts))

    def outputs(self, positions: Sequence[int] | slice) -> dict[str, Tensor]:
        """What a package must say there: logits [n, V], hidden [n, d] and, with that head, halt_logits [n, 2]."""
        hidden = self.hidden[positions]
        with torch.inference_mode():
            halts = {"halt_logits": self.student.halt(hidden)} if self.student.heads.use_halt_head else {}
            return {"logits": self.student.logits(hidden), "hidden": hidden, **halts}
