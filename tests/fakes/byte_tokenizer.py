"""A small byte-level BPE tokenizer, built by the `tokenizers` library itself: every byte is a token, a few merges, control tokens at the end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from interlock.contracts.checkpoint import TokenizerInfo
from runtime.engine.tokenizer import Tokenizer

MERGES = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("Ġ", "w"), ("â", "Ģ"), ("<", "|"), ("|", ">")]
CONTROL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tokenizer_json(*, control: Sequence[str] = CONTROL, special: bool = True, rstrip: bool = False) -> bytes:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*letters, *("".join(pair) for pair in MERGES)]
    inner = tokenizers.Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=MERGES))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_tokens([tokenizers.AddedToken(text, special=special, rstrip=rstrip, normalized=False) for text in control])
    return inner.to_str().encode()


def info_of(data: bytes) -> TokenizerInfo:
    added = {entry["content"]: entry["id"] for entry in json.loads(data)["added_tokens"]}
    ends = tuple(added[text] for text in ("<|im_end|>", "<|endoftext|>") if text in added)
    size = max(added.values()) + 1
    return TokenizerInfo(sha256=hashlib.sha256(data).hexdigest(), vocab_size=size, bos_id=added.get("<|im_start|>"), eos_ids=ends)


def byte_tokenizer(*, chat_template: str | None = CHATML, **options: bool) -> Tokenizer:
    data = tokenizer_json(**options)
    return Tokenizer(data, info_of(data), chat_template=chat_template)
