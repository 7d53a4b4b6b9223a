"""Losses of single tokens: cross-entropy on labels, at the halt head, and at latent slots.

Here: -log p of what should have been said. Not here: teachers' distributions (distillation.py), preferences (preference.py).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from pipeline.training.losses.rows import LOGITS, Head, summed
from pipeline.training.losses.sums import IGNORED, TokenSum


def cross_entropy(student: Tensor, labels: Tensor, head: Head = LOGITS) -> TokenSum:
    """Σ -log p(label) over labels that are not IGNORED.

    student: [N, V] logits, or [N, D] hidden states where `head` has a weight; labels: int64 [N], already shifted: row i predicts labels[i].
    """

    def loss(rows: Tensor, wanted: Tensor) -> Tensor:
        return F.cross_entropy(head.logits(rows), wanted, reduction="sum")

    return summed(loss, labels != IGNORED, head.rows_at_a_time(student), student, labels)


def halt_loss(halt_logits: Tensor, targets: Tensor) -> TokenSum:
    """Cross-entropy of the halt head. halt_logits: [N, 2] `[continue, halt]`; targets: int64 [N], 0 continue, 1 halt, IGNORED elsewhere.

    Untrained (logits zero) it is ln 2 per position. Raises ValueError on another number of columns.
    """
    if halt_logits.shape[-1] != 2:
        raise ValueError(f"halt logits have {halt_logits.shape[-1]} columns: the head says continue or halt")
    return cross_entropy(halt_logits, targets)


def step_loss(latents: Tensor, targets: Tensor, head: Head) -> TokenSum:
    """Cross-entropy of the ordinary LM head on what becomes latent slots, against the tokens of the step that each replaces.

    The cheapest form of SIM-CoT's auxiliary decoder (arXiv:2509.20317): without it slots stay unused while the loss looks well.
    latents: [N, D], hidden states after the final norm that are fed back as slots, or what a decoder makes of them for a later token of the step
    (pipeline/training/latent.py); targets: int64 [N], IGNORED beyond the end of a step; head: with a weight, else `latents` would be taken for logits
    (ValueError).
    """
    if head.weight is None:
        raise ValueError("step_loss needs the weight of the LM head")
    return cross_entropy(latents, targets, head)
