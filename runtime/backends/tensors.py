"""numpy arrays as torch tensors and back, sharing memory.

Here: bf16, which numpy has no type for and which stands as uint16 (runtime/kernels/products.py). Not here: anything computed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from runtime.kernels.products import BRAIN, Array


def as_tensor(array: Array) -> Tensor:
    """The array must be one that can be written, though nobody does: torch knows no others."""
    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if array.dtype == BRAIN else tensor


def as_array(tensor: Tensor) -> Array:
    """Of a tensor on the CPU, without its gradient."""
    still = tensor.detach()
    return still.view(torch.uint16).numpy() if still.dtype is torch.bfloat16 else still.numpy()
