"""A Backend made of a function from the ids so far to the next logits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from runtime.backends.protocol import Step, Vector, check_room, decode_one_by_one, score_one_by_one


@dataclass
class ListCache:
    ids: list[int] = field(default_factory=list)

    @property
    def position(self) -> int:
        return len(self.ids)

    @property
    def size_bytes(self) -> int:
        return 8 * len(self.ids)

    def rewind(self, position: int) -> None:
        del self.ids[position:]

    def copy(self, position: int) -> ListCache:
        return ListCache(self.ids[:position])


@dataclass
class FunctionBackend:
    """`logits_of(ids)`: [V] fp32; `halt_of(ids)`: [2] fp32. Keeps what it was asked in `prompts` and `decoded`."""

    logits_of: Callable[[Sequence[int]], Vector]
    capacity: int = 64
    prompts: list[list[int]] = field(default_factory=list)
    decoded: list[int] = field(default_factory=list)
    halt_of: Callable[[Sequence[int]], Vector] | None = None

    def new_cache(self) -> ListCache:
        return ListCache()

    def prefill(self, ids: Sequence[int], cache: ListCache) -> Step:
        self.prompts.append(list(ids))
        return self._step(ids, cache)

    def decode(self, inp: int | Vector, cache: ListCache) -> Step:
        assert isinstance(inp, int)
        self.decoded.append(inp)
        return self._step([inp], cache)

    def decode_many(self, inputs: Sequence[int | Vector], caches: Sequence[ListCache]) -> list[Step]:
        """See Backend.decode_many."""
        return decode_one_by_one(self, inputs, caches)

    def score(self, ids: Sequence[int], cache: ListCache) -> list[Step]:
        """See Backend.score."""
        return score_one_by_one(self, ids, cache)

    def _step(self, ids: Iterable[int], cache: ListCache) -> Step:
        ids = list(ids)
        check_room(self.capacity, cache.position, len(ids))
        cache.ids += ids
        halt = self.halt_of(cache.ids) if self.halt_of else None
        return Step(logits=self.logits_of(cache.ids), halt_logits=halt, hidden=np.zeros(1, np.float32))


def reciting(prompt_tokens: int, script: Sequence[int], vocab_size: int, **options: int) -> FunctionBackend:
    """A model that says `script`, then its last token for ever."""

    def logits_of(ids: Sequence[int]) -> Vector:
        logits = np.zeros(vocab_size, np.float32)
        logits[script[min(len(ids) - prompt_tokens, len(script) - 1)]] = 1
        return logits

    return FunctionBackend(logits_of, **options)
