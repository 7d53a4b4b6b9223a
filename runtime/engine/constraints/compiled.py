"""A description compiled for a tokenizer, and its state in one answer.

Here: masks over logits, forced tokens, limits of time and memory. Not here: descriptions (sources.py), when a generation ends (turn.py).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from llguidance import LLMatcher, LLParserLimits

from interlock.errors import UsageError
from runtime.backends.protocol import Vector
from runtime.engine.constraints.sources import Kind, Source
from runtime.engine.constraints.vocabulary import Vocabulary, vocabulary
from runtime.engine.tokenizer import Tokenizer

# Most are llguidance's own: 20 ms for the automata of a grammar, 14 ms and 50,000 items for a token. A state takes up to 2 KB.
_LIMITS = LLParserLimits(max_lexer_states=50_000, verbose_errors=False)
_MINUS_INFINITY = np.float32(-np.inf).view(np.int32)


class Compiled:
    """What a turn's `constraint` may be: each call gives the constraint at its beginning. Safe to share between threads.

    Raises UsageError for what cannot be enforced: wrong syntax, a keyword's value that is not supported, nothing that fits, or more than the limits.
    """

    def __init__(self, tokenizer: Tokenizer, source: Source) -> None:
        self._kind, self._words = source.kind, vocabulary(tokenizer)
        self._start = LLMatcher(self._words.inner, source.grammar, log_level=0, limits=_LIMITS)
        _check(self._start, source.kind)
        # The first mask makes most of the automata, and copies have them; it also says whether anything fits at all.
        first = self._begin(self._start).allowed()
        first[list(self._words.ends)] = False
        if not first.any():
            raise _refused(source.kind, "no token can begin an answer")

    def __call__(self) -> Matcher:
        return self._begin(self._start.deep_copy())

    def _begin(self, inner: LLMatcher) -> Matcher:
        return Matcher(inner, self._words, self._kind)


@lru_cache(maxsize=32)
def compile_constraint(tokenizer: Tokenizer, source: Source) -> Compiled:
    """One compilation for all answers of the same description. Raises as `Compiled`."""
    return Compiled(tokenizer, source)


class Matcher:
    """The state of one answer: a `Constraint` (protocol.py). For one thread at a time. Raises UsageError where a limit is exceeded."""

    def __init__(self, inner: LLMatcher, words: Vocabulary, kind: Kind) -> None:
        self._inner, self._size, self._kind = inner, words.size, kind
        self._bits = np.zeros((words.inner.vocab_size + 31) // 32, dtype=np.int32)

    def allowed(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Whether each token may come next: [ids of the tokenizer] bool."""
        self._inner.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        _check(self._inner, self._kind)
        return np.unpackbits(self._bits.view(np.uint8), count=self._size, bitorder="little").view(np.bool_)

    def mask(self, logits: Vector) -> None:
        allowed = self.allowed()[: len(logits)]
        if not allowed.any():  # a vocabulary need not have every byte
            raise _refused(self._kind, "the model has no token that could go on")
        _take_out(logits[: len(allowed)], allowed)
        logits[len(allowed) :] = -np.inf  # embeddings are often padded

    def accept(self, token: int) -> None:
        self._inner.consume_token(token)
        _check(self._inner, self._kind)

    def forced(self) -> list[int]:
        if self._inner.is_stopped():
            return []
        tokens = self._inner.compute_ff_tokens()
        self._inner.consume_tokens(tokens)
        _check(self._inner, self._kind)
        return tokens

    @property
    def may_end(self) -> bool:
        return self._inner.is_accepting()

    @property
    def complete(self) -> bool:
        return self._inner.is_stopped()


def _take_out(logits: Vector, allowed: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> None:
    """-inf where not allowed, in bits: without a branch this is 30 µs for 49,152 tokens whatever is allowed, a masked copy up to 190."""
    keep = -allowed.view(np.int8).astype(np.int32)  # every bit, or none
    bits = logits.view(np.int32)
    bits &= keep
    bits |= ~keep & _MINUS_INFINITY


def _check(inner: LLMatcher, kind: Kind) -> None:
    """llguidance raises nothing: an error is a state that it stays in."""
    if inner.is_error():
        words = inner.get_error().replace("<non-verbose/>", "")
        told = "".join(char if char.isprintable() else " " for char in words)[:400].strip()
        raise _refused(kind, told)


def _refused(kind: Kind, reason: str) -> UsageError:
    return UsageError(f"the {kind} cannot be enforced: {reason}", remedy="correct or simplify it; docs/tools.md says what is supported")
