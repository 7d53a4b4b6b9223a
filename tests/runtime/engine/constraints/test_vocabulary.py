"""The bytes that masks are made of are the bytes that a stream writes, and those that llguidance itself reads in a tokenizer's file."""

from __future__ import annotations

import pytest
from fakes.byte_tokenizer import byte_tokenizer, tokenizer_json
from llguidance import LLTokenizer

from runtime.engine.constraints.vocabulary import vocabulary

pytestmark = pytest.mark.train


@pytest.mark.parametrize("special", [True, False])
def test_bytes_and_control_tokens_are_the_tokenizers(special: bool) -> None:
    tokenizer = byte_tokenizer(special=special)
    ours = vocabulary(tokenizer)
    theirs = LLTokenizer(tokenizer_json().decode(), eos_token=list(tokenizer.info.eos_ids))
    assert ours.size == theirs.vocab_size == tokenizer.vocab_size
    for token in range(ours.size):
        said = tokenizer.token_bytes(token)
        # llguidance marks control tokens by a first byte 0xFF, which no UTF-8 text has: the token of that byte looks like one to it
        control = said in (b"", b"\xff")
        assert ours.inner.is_special_token(token) == theirs.is_special_token(token) == control
        assert ours.inner.decode_bytes([token]) == theirs.decode_bytes([token]), token
        assert control or ours.inner.decode_bytes([token]) == said


def test_forced_text_is_cut_into_tokens_as_the_tokenizer_does() -> None:
    ours = vocabulary(byte_tokenizer())
    assert ours.inner.is_canonical
    for text in ("hello hello", "say hello <|im_end|> é 👍", "a" * 50):
        assert ours.inner.tokenize_str(text) == byte_tokenizer().encode(text)
