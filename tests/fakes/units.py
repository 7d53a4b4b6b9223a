"""What is promised of fp32 weights where prompts run on matrix units, and where they do not."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.backends.eager import EagerBackend, EagerCache
from runtime.backends.protocol import Step
from runtime.kernels import load

# Two bf16 terms of each factor, without the product of the lower ones: -109 dB per product (docs/error-model.md), as independent errors over the 19
# of three layers.
PROMPT_DB = 97


def one_by_one(backend: EagerBackend, ids: Sequence[int], cache: EagerCache) -> Step:
    """The step after a prompt whose ids are given singly: one id is multiplied in fp32 everywhere."""
    for number in ids:
        step = backend.prefill([number], cache)
    return step


def prompt_db(exact: float) -> float:
    """`exact` where prompts are multiplied in fp32."""
    kernels = load()
    return PROMPT_DB if kernels is not None and kernels.prompt_function else exact
