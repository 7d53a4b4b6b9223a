"""What is told of a chosen token is the model's own distribution, as torch computes it, whatever sampling makes of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fakes.byte_tokenizer import byte_tokenizer
from fakes.function_backend import FunctionBackend

from runtime.engine.generate import generate
from runtime.engine.logprobs import Chosen, log_probabilities
from runtime.engine.sampling import SamplingParams
from runtime.engine.turn import GenerationParams

pytestmark = pytest.mark.train

TOKENIZER = byte_tokenizer()
LOGITS = np.random.default_rng(3).normal(scale=4, size=TOKENIZER.vocab_size).astype(np.float32)


@pytest.mark.parametrize("count", [0, 1, 5, TOKENIZER.vocab_size])
def test_log_probabilities_are_those_of_torch(count: int) -> None:
    params = GenerationParams(SamplingParams(temperature=2.5, top_k=3, repetition_penalty=1.3, seed=4), max_new_tokens=12, logprobs=count)
    generation = generate(FunctionBackend(lambda ids: LOGITS.copy()), TOKENIZER, [5, 6], params)
    expected = torch.log_softmax(torch.from_numpy(LOGITS).double(), -1)
    values, ids = expected.topk(count)
    assert [chosen.token for chosen in generation.logprobs] == list(generation.tokens)
    for chosen in generation.logprobs:
        assert chosen.logprob == pytest.approx(float(expected[chosen.token]), abs=1e-12)
        assert [token for token, _ in chosen.top] == ids.tolist()
        assert [value for _, value in chosen.top] == pytest.approx(values.tolist(), abs=1e-12)


def test_of_equals_the_lowest_id_comes_first() -> None:
    scores = log_probabilities(np.array([0, 1, 1, 0, 1], np.float32))
    assert [token for token, _ in Chosen.of(scores, 0, 5).top] == [1, 2, 4, 0, 3]


def test_nothing_is_told_unless_asked() -> None:
    assert generate(FunctionBackend(lambda ids: LOGITS.copy()), TOKENIZER, [5], GenerationParams(max_new_tokens=3)).logprobs == ()
