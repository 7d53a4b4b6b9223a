"""A tokenizer in the form that llguidance reads: the bytes of every token, and ids for the text that a grammar forces.

Here: one table for each tokenizer. Not here: grammars. The bytes are `Tokenizer.token_bytes`, which a stream writes: what is allowed is what is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from llguidance import LLTokenizer, TokenizerWrapper

from runtime.engine.tokenizer import Tokenizer


@dataclass(frozen=True)
class Vocabulary:
    """`size`: ids of the tokenizer, which a mask speaks of; `ends`: those that end a text. llguidance has one more where there is no such token."""

    inner: LLTokenizer
    size: int
    ends: tuple[int, ...]


@lru_cache(maxsize=4)  # a process runs one model, seldom two; the table of SmolLM2 takes half a second and 10 MB
def vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    words = _Words(tokenizer)
    inner = LLTokenizer(TokenizerWrapper(words), eos_token=list(words.ends) or [words.size])
    return Vocabulary(inner, words.size, words.ends)


class _Words:
    """What llguidance's TokenizerWrapper asks for."""

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.size = tokenizer.vocab_size
        said = [tokenizer.token_bytes(token) for token in range(self.size)]
        # A token without text is a control token: only a grammar that names it can have it.
        self.special_token_ids = [token for token, text in enumerate(said) if not text]
        self.tokens = [text or (tokenizer.token_string(token) or f"<id {token}>").encode() for token, text in enumerate(said)]
        self.ends = tuple(token for token in tokenizer.info.eos_ids if token < self.size)
        if not self.ends:
            self.special_token_ids.append(self.size)
            self.tokens.append(b"<end>")
        self.eos_token_id = next(iter(self.ends), self.size)

    def __call__(self, text: bytes) -> list[int]:
        return self._tokenizer.encode(text.decode())
