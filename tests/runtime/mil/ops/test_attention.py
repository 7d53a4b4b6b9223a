"""Attention against its formula in double."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes.programs import evaluate


def formula(query: Any, key: Any, value: Any, added: Any) -> Any:
    scores = query @ np.swapaxes(key, -1, -2) / np.sqrt(query.shape[-1]) + added
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True) @ value


@pytest.mark.parametrize("mask", ["none", "added", "bool", "broadcast"])
def test_attention_equals_its_formula(mask: str) -> None:
    rng = np.random.default_rng(0)
    query, key, value = (rng.normal(0, 2, (1, 3, size, 8)).astype(np.float32) for size in (4, 6, 6))
    added = rng.normal(0, 1, (1, 1, 1 if mask == "broadcast" else 4, 6)).astype(np.float32)
    seen = np.concatenate([np.ones((4, 1), bool), rng.random((4, 5)) > 0.5], -1)
    given: dict[str, Any] = {"none": {}, "bool": {"attn_mask": seen}}.get(mask, {"attn_mask": added})
    expected = {"none": np.float64(0), "bool": np.where(seen, 0, -np.inf)}.get(mask, added)
    found = evaluate("scaled_dot_product_attention", query=query, key=key, value=value, **given)
    np.testing.assert_allclose(found, formula(query.astype(float), key.astype(float), value, expected), rtol=1e-4, atol=1e-5)
