"""Random students and teachers over a few tokens, and what a capture of the teacher's top k would hold."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from pipeline.training.losses.teachers import Tail, TopKTeacher

ROWS, VOCABULARY, TOP = 5, 12, 4

seeds = st.integers(0, 2**32 - 1)
temperatures = st.floats(0.5, 4)


def logits(seed: int, rows: int = ROWS, vocabulary: int = VOCABULARY) -> Tensor:
    """fp32 [rows, vocabulary], peaked and flat rows, none beyond 12."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.rand(rows, 1, generator=generator) * 4
    return (torch.randn(rows, vocabulary, generator=generator) * scale).clamp(-12, 12)


def top_k(teacher: Tensor, mode: Tail, k: int = TOP, dtype: torch.dtype = torch.float32) -> TopKTeacher:
    """What a capture keeps of logits [N, V]: fp64 inside, so that the tail does not cancel."""
    everything = teacher.double().log_softmax(-1)
    best = everything.topk(k, -1)
    rest = everything.scatter(-1, best.indices, -torch.inf).logsumexp(-1)
    return TopKTeacher(best.indices.int(), best.values.to(dtype), rest.float(), mode)


def fp64(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.detach().double().numpy()
