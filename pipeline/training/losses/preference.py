"""Code-mode preference: tokens that call tools from code become likelier, tokens of direct calls less likely.

Here: the loss on the tokens that are there. Not here: which tokens of a pair these are (pipeline/training/code_mode.py), whom it is for
(pipeline/datasets/code_mode.py), its weight over time (settings.py).
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.training.losses.rows import LOGITS, Head, summed
from pipeline.training.losses.sums import TokenSum
from pipeline.training.losses.teachers import log_rest


def preference_loss(student: Tensor, tokens: Tensor, marks: Tensor, head: Head = LOGITS) -> TokenSum:
    """Σ -log p(token) over preferred tokens, and -log(1 - p(token)) over avoided ones (unlikelihood, Welleck et al. 2020, arXiv:1908.04319).

    student: [N, V] logits, or [N, D] hidden states where `head` has a weight; tokens: int64 [N], the tokens that follow in the text: no other token's
    probability enters, except as 1 - p; marks: int8 [N], 1 preferred, -1 avoided, 0 neither (all tokens of a row that is not eligible).
    """

    def loss(rows: Tensor, wanted: Tensor, mark: Tensor) -> Tensor:
        logits, column = head.logits(rows), wanted[:, None]
        said = torch.where(mark > 0, logits.gather(-1, column).squeeze(-1), log_rest(logits, column))
        return (logits.logsumexp(-1) - said).sum()

    return summed(loss, marks != 0, head.rows_at_a_time(student), student, tokens, marks)
