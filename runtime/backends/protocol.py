"""What runs a deployed model step by step: the seam between the token loop and eager, torchscript, reference and coreml.

Here: the protocol and what one step returns. Not here: sampling, stopping, latent spans, prefix reuse (runtime/engine): they are written
once, over this.

Why this form. A cache is a value of its own, because the weights are shared and conversations are many; so a server holds one backend and
a cache per conversation. The protocol has few verbs, and what the engine needs is a combination of them:

- a new conversation: `new_cache`, then `prefill`;
- a prefix that is already there: `rewind` to its length, then `prefill` the rest (prefill appends, it does not start over);
- a latent span: `decode` of the last step's `hidden` instead of a token;
- many conversations at once: `decode_many`, which shares the reading of the weights and changes no bit of any answer;
- a guess at the next tokens: `score` says what the model says after each of them, bit for bit as if it had been given one by one;
- refinement or speculation that is taken back: `rewind`.

Every backend can rewind for nothing: slots beyond the position are hidden by the mask and overwritten later (Core ML states included).
Arrays are numpy: the token loop, and a backend that needs no torch, then start without importing it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from interlock.errors import UsageError

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Step:
    """What the model says after the last position it was given. The arrays are fresh: the caller may change them.

    logits: [V] fp32; halt_logits: [2] fp32 `[continue, halt]`, None without a halt head; hidden: [d] fp32 after the final norm.
    """

    logits: Vector
    halt_logits: Vector | None
    hidden: Vector


class Cache(Protocol):
    """The keys and values of one sequence."""

    @property
    def position(self) -> int:
        """How many inputs (tokens and latent vectors) the sequence has: the slot that the next one takes."""

    @property
    def size_bytes(self) -> int:
        """Memory that it holds."""

    def rewind(self, position: int) -> None:
        """Forget everything from `position` on. Raises ValueError unless 0 ≤ position ≤ self.position."""


CopyT = TypeVar("CopyT", bound="Copyable")


@runtime_checkable
class Copyable(Protocol):
    """A cache whose beginning can be given to another sequence. Not every platform can: a Core ML state is its model's alone."""

    def copy(self: CopyT, position: int) -> CopyT:
        """A sequence of its own that has the first `position` inputs. Raises ValueError unless 0 ≤ position ≤ self.position."""


CacheT = TypeVar("CacheT", bound=Cache)


class Backend(Protocol[CacheT]):
    """A model that can be run. One cache must not be used by two calls at once; different caches may."""

    @property
    def capacity(self) -> int:
        """The most inputs that one sequence can have."""

    def new_cache(self) -> CacheT:
        """An empty sequence."""

    def prefill(self, ids: Sequence[int], cache: CacheT) -> Step:
        """Append tokens, at least one, and return the step after the last. Raises UsageError beyond the capacity, ValueError on no ids."""

    def decode(self, inp: int | Vector, cache: CacheT) -> Step:
        """Append one token, or one latent vector [d] fp32 in its place. Raises UsageError beyond the capacity."""

    def decode_many(self, inputs: Sequence[int | Vector], caches: Sequence[CacheT]) -> list[Step]:
        """Append one input to each of some different sequences: the steps that `decode` returns one by one, bit for bit, in any composition.

        Raises UsageError beyond the capacity of any, and ValueError unless there is one cache of its own for each input; then nothing is appended.
        """

    def score(self, ids: Sequence[int], cache: CacheT) -> list[Step]:
        """Append tokens to one sequence: the steps that `decode` returns after each, bit for bit. For a few: memory is held for all their logits.

        Raises UsageError beyond the capacity; then nothing is appended.
        """


def check_room(capacity: int, position: int, count: int) -> None:
    """Raises UsageError if a sequence at `position` cannot take `count` more inputs."""
    if position + count > capacity:
        raise UsageError(
            f"the sequence would have {position + count} positions, the model has {capacity}",
            remedy="shorten the prompt or generate fewer tokens",
        )


def check_rewind(now: int, position: int) -> None:
    """Raises ValueError: a rewind forward, or before the start, is a bug of ours."""
    if not 0 <= position <= now:
        raise ValueError(f"rewind to {position}: the sequence has {now} positions")


def check_batch(capacity: int, inputs: Sequence[int | Vector], caches: Sequence[Cache]) -> None:
    """What every `decode_many` refuses. Raises UsageError and ValueError as it says."""
    if len(inputs) != len(caches) or len({id(cache) for cache in caches}) != len(caches):
        raise ValueError(f"{len(inputs)} inputs for {len({id(cache) for cache in caches})} different caches of {len(caches)}")
    for cache in caches:
        check_room(capacity, cache.position, 1)


def decode_one_by_one(backend: Backend[CacheT], inputs: Sequence[int | Vector], caches: Sequence[CacheT]) -> list[Step]:
    """`decode_many` of a backend that reads its weights once per sequence anyway."""
    check_batch(backend.capacity, inputs, caches)
    return [backend.decode(inp, cache) for inp, cache in zip(inputs, caches, strict=True)]


def score_one_by_one(backend: Backend[CacheT], ids: Sequence[int], cache: CacheT) -> list[Step]:
    """`score` of such a backend."""
    check_room(backend.capacity, cache.position, len(ids))
    return [backend.decode(token, cache) for token in ids]
