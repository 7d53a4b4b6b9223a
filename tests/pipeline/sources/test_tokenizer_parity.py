"""Ids of the converted tokenizer against byte-level BPE written from its description, over the GGUF's tokens and merges and llama.cpp's patterns."""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tokenizers
from fakes.smollm2 import smollm2_metadata, smollm2_path

from pipeline.sources.tokenizer import from_gguf, from_huggingface

pytestmark = pytest.mark.train

# llama.cpp, src/llama-vocab.cpp, `regex_exprs` of each pre-tokenizer type. Text that a pattern does not match stays a piece of its own.
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|"
PUBLISHED = {
    "smollm": [r"\p{N}", _GPT2],
    "gpt-2": [_GPT2],
    "default": [r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
    "llama-bpe": [_WORD + r"\p{N}{1,3}" + _TAIL],
    "smaug-bpe": [_WORD + r"\p{N}{1,3}" + _TAIL],
    "qwen2": [_WORD + r"\p{N}" + _TAIL],
}


def split(text: str, patterns: list[str]) -> list[str]:
    import regex

    pieces = [text]
    for pattern in patterns:
        finer: list[str] = []
        for piece in pieces:
            end = 0
            for match in regex.finditer(pattern, piece):
                finer += [piece[end : match.start()], match[0]]
                end = match.end()
            finer.append(piece[end:])
        pieces = [piece for piece in finer if piece]
    return pieces


@functools.cache
def tables() -> tuple[dict[str, int], dict[tuple[str, str], int], dict[int, str]]:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    tokens, merges = smollm2_metadata()["tokenizer.ggml.tokens"], smollm2_metadata()["tokenizer.ggml.merges"]
    assert isinstance(tokens, list) and isinstance(merges, list)
    ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(merges)}
    return {token: i for i, token in enumerate(tokens)}, ranks, bytes_to_unicode()


@functools.lru_cache(maxsize=100_000)
def merge(piece: str, ignore_merges: bool) -> tuple[int, ...]:
    ids, ranks, letters = tables()
    symbols = [letters[byte] for byte in piece.encode() if letters[byte] in ids]
    if ignore_merges and "".join(symbols) in ids:
        return (ids["".join(symbols)],)
    while len(symbols) > 1:
        rank, place = min((ranks.get((symbols[i], symbols[i + 1]), 1 << 30), i) for i in range(len(symbols) - 1))
        if rank == 1 << 30:
            break
        symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]
    return tuple(ids[symbol] for symbol in symbols)


def oracle(text: str, pre: str) -> list[int]:
    return [token for piece in split(text, PUBLISHED[pre]) for token in merge(piece, pre == "llama-bpe")]


CODE = [
    "def f(x):\n    return x**2  # naïve\n",
    "\tif (a != b) { c += 1; }\r\n",
    "https://example.org/?q=1&b=%20",
    "SELECT * FROM t WHERE a='it''s';",
    "0x1F_00",
]
WORDS = [
    "the",
    " quick",
    "Brown",
    " don't",
    "I'll",
    "WE'RE",
    "they'd've",
    "x's",
    " 'tis",
    "naïve",
    "co-operate",
    "e.g.",
    "3.14",
    "1234567890",
    "½",
    "٣٤٥",
]
SCRIPTS = ["中文字符", "日本語テキスト", "한국어", "שלום עולם", "مرحبا بالعالم", "Привет", "हिन्दी में", "ไทย", "Ελληνικά", "e\u0301", "ﬁ"]
SIGNS = [
    "👩‍👩‍👧‍👦",
    "🏳️‍🌈",
    "👍🏽",
    "🇩🇪",
    "…",
    "—",
    "«»",
    "\u200b",
    "\u202e",
    "\ufeff",
    "\u00a0",
    "\u3000",
    "\u2028",
    "\x00",
    "\x1b[31m",
    "\x7f",
    "\x85",
    "|<|",
    "$+^~`",
]
SPACES = [" ", "  ", " " * 17, "\n", "\n\n\n", "\t\t", "\r\n", " \n ", "\t \t", " " * 200, "\n" * 50, "\x0b\x0c"]


def strings() -> Iterator[str]:
    chosen = random.Random(20240607)
    families = [CODE, WORDS, SCRIPTS, SIGNS, SPACES]
    everything = [piece for family in families for piece in family]
    yield from ("", *everything)
    for family in families:
        for _ in range(250):
            yield "".join(chosen.choices(family, k=chosen.randint(1, 12)))
    for _ in range(900):
        yield "".join(chosen.choices(everything, k=chosen.randint(1, 25)))
    for _ in range(200):
        yield "".join(chr(chosen.choice([chosen.randint(1, 0x7F), chosen.randint(0x80, 0x24F), chosen.randint(0x4E00, 0x9FA5)])) for _ in range(40))


def converted(pre: str) -> Callable[[str], list[int]]:
    from transformers import PreTrainedTokenizerFast

    files = from_gguf({**smollm2_metadata(), "tokenizer.ggml.pre": pre}, smollm2_path())
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer.from_str(files.tokenizer_json.decode()))
    return lambda text: list(fast(text, add_special_tokens=False)["input_ids"])


def test_ids_of_the_real_file_are_those_of_the_published_algorithm() -> None:
    texts = list(dict.fromkeys(strings()))
    assert len(texts) >= 2000
    encode = converted("smollm")
    different = [text for text in texts if encode(text) != oracle(text, "smollm")]
    assert different == []


@pytest.mark.parametrize("pre", [name for name in PUBLISHED if name != "smollm"])
def test_every_pre_tokenizer_splits_as_published(pre: str) -> None:
    import unicodedata

    encode = converted(pre)
    texts = [unicodedata.normalize("NFC", text) if pre == "qwen2" else text for text in strings()]
    assert [text for text in texts[::3] if encode(text) != oracle(text, pre)] == []
    assert any(encode(text) != oracle(text, "smollm") for text in texts[::3])  # the families differ, and the texts show it


def test_control_tokens_are_found_whole() -> None:
    encode = converted("smollm")
    assert encode("<|im_start|>user\nhi<|im_end|>") == [1, *oracle("user\nhi", "smollm"), 2]


def test_what_transformers_saves_of_it_is_read_as_the_same_tokenizer(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    ours = from_gguf(smollm2_metadata(), smollm2_path())
    inner = tokenizers.Tokenizer.from_str(ours.tokenizer_json.decode())
    names = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}
    PreTrainedTokenizerFast(tokenizer_object=inner, chat_template=ours.chat_template, **names).save_pretrained(tmp_path)
    read = from_huggingface(tmp_path)
    assert dataclasses.replace(read, tokenizer_json=b"") == dataclasses.replace(ours, tokenizer_json=b"")
    again = tokenizers.Tokenizer.from_str(read.tokenizer_json.decode())
    texts = list(strings())[::20]
    assert [again.encode(text).ids for text in texts] == [inner.encode(text).ids for text in texts]
