"""Distillation: how far the student's distribution is from its teacher's, summed over supervised tokens.

Here: divergence, temperature and T² put together. Not here: each of them (divergences.py, teachers.py).
"""

from __future__ import annotations

import math

from torch import Tensor

from pipeline.training.losses.divergences import Divergence, forward_kl, reverse_kl
from pipeline.training.losses.rows import LOGITS, Head, summed
from pipeline.training.losses.sums import TokenSum
from pipeline.training.losses.teachers import Teacher, TopKTeacher


def distillation(
    student: Tensor, teacher: Teacher, supervised: Tensor, *, divergence: Divergence = forward_kl, temperature: float = 1.0, head: Head = LOGITS
) -> TokenSum:
    """Σ T² · divergence(student at T, teacher at T) over supervised tokens, in nats.

    student: [N, V] logits, or [N, D] hidden states where `head` has a weight; supervised: bool [N], false at prompts, slots and padding. Row i of the
    teacher is of the same position as row i of the student: what each says after the same tokens. T² keeps the size of gradients when T changes
    (Hinton et al. 2015, §2). Raises ValueError at T ≤ 0, where vocabularies differ, and for reverse KL against a teacher whose tail is zero.
    """
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature is {temperature}: it divides the logits")
    if divergence is reverse_kl and isinstance(teacher, TopKTeacher) and teacher.mode == "zero":
        raise ValueError("reverse KL is infinite where the teacher's tail is zero: take mode bucket, or forward KL")

    def loss(rows: Tensor, *theirs: Tensor) -> Tensor:
        return temperature**2 * divergence(*teacher.compare(head.logits(rows), *theirs, temperature=temperature)).sum()

    return summed(loss, supervised, head.rows_at_a_time(student), student, *teacher.columns())
