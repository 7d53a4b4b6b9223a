"""Filters against transformers' logits processors, in the order in which its generate applies them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from runtime.engine.sampling import SamplingParams, candidates

pytestmark = pytest.mark.train

CASES = list(itertools.product([0.3, 1.0, 1.7], [0, 1, 40], [0.1, 0.9, 1.0], [0.0, 0.05, 0.5], [1.0, 1.3]))


@pytest.mark.parametrize(("temperature", "top_k", "top_p", "min_p", "penalty"), CASES)
def test_candidates_and_probabilities_are_those_of_transformers(temperature: float, top_k: int, top_p: float, min_p: float, penalty: float) -> None:
    import torch
    from transformers import (
        LogitsProcessorList,
        MinPLogitsWarper,
        RepetitionPenaltyLogitsProcessor,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    random = np.random.default_rng(5)
    logits = (random.standard_normal(500) * 4).astype(np.float32)
    history = random.integers(0, 500, 60).tolist()
    theirs = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(penalty)] if penalty != 1 else [])
    theirs += [TemperatureLogitsWarper(temperature)] if temperature != 1 else []
    theirs += [TopKLogitsWarper(top_k)] if top_k else []
    theirs += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    theirs += [MinPLogitsWarper(min_p)] if min_p else []
    expected = theirs(torch.tensor([history]), torch.from_numpy(logits.copy())[None]).softmax(-1)[0].numpy()
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, repetition_penalty=penalty)
    ids, probabilities = candidates(logits, history, params)
    assert ids.tolist() == np.flatnonzero(expected).tolist()
    np.testing.assert_allclose(probabilities, expected[ids], rtol=2e-5, atol=1e-9)
