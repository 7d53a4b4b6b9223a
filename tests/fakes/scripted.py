"""A model that says what a script says, and a broker with one recorded result: the loop, tokenizer and template around them are real."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from fakes.byte_tokenizer import byte_tokenizer
from fakes.function_backend import FunctionBackend

from eval.broker import replay
from eval.broker.replay import Broker
from eval.calls import Call
from eval.items import Item
from pipeline.datasets.world import REGISTRY
from runtime.backends.protocol import Vector
from runtime.load import Loaded

TOKENIZER = byte_tokenizer()
END = TOKENIZER.info.eos_ids[0]
LOOK = Call("weather.lookup", {"place": "Gugeam", "unit": "celsius"})
BROKER = Broker(REGISTRY, {one.digest: one for one in replay.recorded(REGISTRY, [(LOOK, {"temperature": 12})])})
ITEM = Item("i", None, "12", messages=({"role": "user", "content": "How warm is it in Gugeam?"},), tools=("weather.lookup", "people.find", "no.tool"))


def scripted(*said: str) -> tuple[Loaded, list[str]]:
    """A model that says one text in each round, and the prompts that it was given."""
    script = [[*TOKENIZER.encode_prompt(text), END] for text in said]
    prompts: list[str] = []

    def logits_of(ids: Sequence[int]) -> Vector:
        answer = script[len(prompts) - 1]
        logits = np.full(TOKENIZER.info.vocab_size, -10.0, np.float32)
        logits[answer[min(len(backend.decoded) - len(started), len(answer) - 1)]] = 10.0
        return logits

    started: list[int] = []
    backend = FunctionBackend(logits_of, capacity=1 << 16)
    prefill = backend.prefill

    def begin(ids: Sequence[int], cache: object) -> object:
        prompts.append(TOKENIZER.decode(ids))
        started[:] = backend.decoded
        return prefill(ids, cache)  # type: ignore[arg-type]

    backend.prefill = begin  # type: ignore[method-assign,assignment]
    return Loaded(backend, "eager", TOKENIZER, TOKENIZER.info, None, "0" * 64), prompts
