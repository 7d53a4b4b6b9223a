"""A `.mlpackage` as a backend, whatever runs its functions: prompts cut to static lengths, the state as a cache.

Here: what `reference` and `coreml` share. Not here: running a function (reference.py, coreml.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from interlock.contracts.package import LATENT, PackageFacts
from interlock.errors import UsageError
from runtime.backends.protocol import Step, Vector, check_rewind, check_room, decode_one_by_one, score_one_by_one

StateT = TypeVar("StateT")
Arrays = dict[str, NDArray[Any]]
# Runs a function by name on a state, which it changes.
Call = Callable[[str, Arrays, StateT], Arrays]


class PackageCache(Generic[StateT]):
    """The package's state of one sequence. Slots from `position` on are hidden by the package's own mask."""

    def __init__(self, state: StateT, size_bytes: int) -> None:
        self.state, self.size_bytes = state, size_bytes
        self.position = 0

    def rewind(self, position: int) -> None:
        """Forget everything from `position` on. Raises ValueError unless 0 ≤ position ≤ self.position."""
        check_rewind(self.position, position)
        self.position = position


class PackageBackend(Generic[StateT]):
    """A package of layout `multifunction`: `prefill_<T>` for whole chunks of a prompt, `decode` for the rest, `decode_latent` for latent slots."""

    def __init__(self, facts: PackageFacts, call: Call[StateT], new_state: Callable[[], StateT]) -> None:
        """Raises UsageError for a package without a decode function."""
        if "decode" not in facts.functions:
            raise UsageError("the package has no `decode` function, so it cannot generate", remedy="convert with --layout multifunction")
        self._call, self._new_state, self._latent = call, new_state, LATENT in facts.functions
        self._lengths = sorted(int(name.removeprefix("prefill_")) for name in facts.functions if name.startswith("prefill_"))
        states = facts.functions["decode"].states
        self._slots = next(state.shape[2] for state in states if state.name == "k_cache")
        self._state_bytes = sum(2 * math.prod(state.shape) for state in states)  # states are fp16

    @property
    def capacity(self) -> int:
        return self._slots

    def new_cache(self) -> PackageCache[StateT]:
        return PackageCache(self._new_state(), self._state_bytes)

    def prefill(self, ids: Sequence[int], cache: PackageCache[StateT]) -> Step:
        """Append tokens: padded to a static length where its slots fit, else one by one. See Backend.prefill."""
        if not len(ids):
            raise ValueError("prefill needs at least one id")
        check_room(self.capacity, cache.position, len(ids))
        rest = list(ids)
        step = None
        while rest:
            length = next((size for size in self._lengths if size >= len(rest)), self._lengths[-1])
            if len(rest) == 1 or cache.position + length > self._slots:
                step, rest = self.decode(rest[0], cache), rest[1:]
            else:
                step, rest = self._chunk(rest[:length], length, cache), rest[length:]
        assert step is not None
        return step

    def _chunk(self, ids: list[int], length: int, cache: PackageCache[StateT]) -> Step:
        # Padding on the right is harmless: its slots lie beyond the position, are hidden, and are overwritten by what comes next.
        padded = np.zeros((1, length), np.int32)
        padded[0, : len(ids)] = ids
        inputs = {
            "input_ids": padded,
            "position_ids": np.arange(cache.position, cache.position + length, dtype=np.int32),
            "last_index": np.array([len(ids) - 1], np.int32),
        }
        outputs = self._call(f"prefill_{length}", inputs, cache.state)
        cache.position += len(ids)
        return _step(outputs)

    def decode(self, inp: int | Vector, cache: PackageCache[StateT]) -> Step:
        """Append one token or one latent vector. See Backend.decode; a vector raises UsageError where the package has no function for it."""
        if isinstance(inp, np.ndarray) and not self._latent:
            raise UsageError("this package takes tokens only, not latent vectors", remedy="use --backend eager, or leave latent mode off")
        check_room(self.capacity, cache.position, 1)
        positions = np.array([cache.position], np.int32)
        if isinstance(inp, np.ndarray):
            outputs = self._call(LATENT, {"inputs_embeds": inp.astype(np.float16)[None, None], "position_ids": positions}, cache.state)
        else:
            outputs = self._call("decode", {"input_ids": np.array([[inp]], np.int32), "position_ids": positions}, cache.state)
        cache.position += 1
        return _step(outputs)

    def decode_many(self, inputs: Sequence[int | Vector], caches: Sequence[PackageCache[StateT]]) -> list[Step]:
        """See Backend.decode_many."""
        return decode_one_by_one(self, inputs, caches)

    def score(self, ids: Sequence[int], cache: PackageCache[StateT]) -> list[Step]:
        """See Backend.score."""
        return score_one_by_one(self, ids, cache)


def _step(outputs: Arrays) -> Step:
    """logits [1, 1, V], halt_logits [1, 2] where there is one, hidden [1, 1, d], fp16 or fp32 → fp32."""
    wide = {name: array.astype(np.float32).reshape(-1) for name, array in outputs.items()}
    return Step(wide["logits"], wide.get("halt_logits"), wide["hidden"])
