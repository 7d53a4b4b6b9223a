"""Attention as one operation. Source of the semantics: coremltools ops/defs/iOS18/transformers.py."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from runtime.mil.ops.registry import operation


@operation("scaled_dot_product_attention", proof="ops/test_attention.py::test_attention_equals_its_formula")
def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """query: [B, ..., L, E]; key: [B, ..., S, E]; value: [B, ..., S, EV]; attn_mask: bool (True: attend) or added, broadcast to [B, ..., L, S]
    → [B, ..., L, EV]. Scores are divided by √E."""
    return F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)
