"""GGUF tokenizer metadata that is not what it must be is refused at the field, and what is converted says what the file says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes.byte_tokenizer import CONTROL, MERGES, tokenizer_json

from interlock.errors import ContractError
from pipeline.sources.tokenizer import from_gguf
from runtime.engine.chat import TEMPLATE_BYTES

FILE = Path("model.gguf")
VOCAB = json.loads(tokenizer_json())["model"]["vocab"]
TOKENS = [*VOCAB, *CONTROL, "<tool>"]
START, END, TEXT_END, TOOL = range(len(VOCAB), len(TOKENS))
GOOD: dict[str, object] = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": tuple(TOKENS),
    "tokenizer.ggml.token_type": (1,) * len(VOCAB) + (3, 3, 3, 4),
    "tokenizer.ggml.merges": tuple(" ".join(pair) for pair in MERGES),
    "tokenizer.ggml.bos_token_id": START,
    "tokenizer.ggml.eos_token_id": END,
    "tokenizer.ggml.padding_token_id": TEXT_END,
}


def changed(**values: object) -> dict[str, object]:
    """GOOD with keys below `tokenizer.ggml.` replaced; None leaves one out."""
    document = {**GOOD, **{f"tokenizer.ggml.{key}": value for key, value in values.items()}}
    return {key: value for key, value in document.items() if value is not None}


def with_item(key: str, place: int, value: object) -> dict[str, object]:
    items = list(GOOD[f"tokenizer.ggml.{key}"])  # type: ignore[call-overload]
    items[place] = value
    return changed(**{key: items})


def test_what_the_file_says_is_kept() -> None:
    files = from_gguf(GOOD, FILE)
    document = json.loads(files.tokenizer_json)
    assert (files.bos_id, files.eos_ids, files.pad_id, files.add_bos, files.vocab_size) == (START, (END, TEXT_END), TEXT_END, False, len(TOKENS))
    assert document["model"]["vocab"] == {token: i for i, token in enumerate(TOKENS)}
    assert [(entry["id"], entry["special"]) for entry in document["added_tokens"]] == [(START, True), (END, True), (TEXT_END, True), (TOOL, False)]


def test_a_text_ends_at_declared_ids_first_and_at_known_control_tokens() -> None:
    assert from_gguf(changed(eos_token_id=TEXT_END, eot_token_id=START), FILE).eos_ids == (TEXT_END, START, END)
    assert from_gguf(changed(eos_token_id=None, token_type=[1] * len(VOCAB) + [3, 4, 4, 4]), FILE).eos_ids == ()


@pytest.mark.parametrize(
    ("pre", "said", "expected"), [("smollm", None, False), ("smollm", True, True), ("llama-bpe", None, True), ("llama-bpe", False, False)]
)
def test_the_first_token_is_added_as_the_file_or_its_family_says(pre: str, said: bool | None, expected: bool) -> None:
    assert from_gguf(changed(pre=pre, add_bos_token=said), FILE).add_bos is expected


BAD = {
    "sentencepiece": (changed(model="llama"), "tokenizer.ggml.model"),
    "no model": (changed(model=None), "tokenizer.ggml.model"),
    "unknown pre-tokenizer": (changed(pre="tekken"), "tokenizer.ggml.pre"),
    "no pre-tokenizer": (changed(pre=None), "tokenizer.ggml.pre"),
    "list for a name": (changed(pre=["smollm"]), "tokenizer.ggml.pre"),
    "tokens are no array": (changed(tokens="abc"), "tokenizer.ggml.tokens"),
    "no tokens": (changed(tokens=[]), "tokenizer.ggml.tokens"),
    "too many tokens": (changed(tokens=["a"] * ((1 << 20) + 1)), "tokenizer.ggml.tokens"),
    "number for a token": (with_item("tokens", 7, 7), "tokenizer.ggml.tokens/7"),
    "empty token": (with_item("tokens", 7, ""), "tokenizer.ggml.tokens/7"),
    "long token": (with_item("tokens", 7, "a" * 1025), "tokenizer.ggml.tokens/7"),
    "token twice": (with_item("tokens", START, TOKENS[4]), f"tokenizer.ggml.tokens/{START}"),
    "token outside the byte alphabet": (with_item("tokens", 7, "a b"), "tokenizer.ggml.tokens/7"),
    "control character in an added token": (with_item("tokens", START, "<|\x1b[2J|>"), f"tokenizer.ggml.tokens/{START}"),
    "lone surrogate": (with_item("tokens", START, "<\ud800>"), f"tokenizer.ggml.tokens/{START}"),
    "no types": (changed(token_type=None), "tokenizer.ggml.token_type"),
    "a type missing": (changed(token_type=[1] * 5), "tokenizer.ggml.token_type"),
    "unknown type": (with_item("token_type", 3, 6), "tokenizer.ggml.token_type/3"),
    "no merges": (changed(merges=None), "tokenizer.ggml.merges"),
    "merge of one": (with_item("merges", 0, "he"), "tokenizer.ggml.merges/0"),
    "merge of three": (with_item("merges", 0, "h e l"), "tokenizer.ggml.merges/0"),
    "merge with an empty part": (with_item("merges", 0, "h "), "tokenizer.ggml.merges/0"),
    "merge of unknown parts": (with_item("merges", 0, "zz z"), "tokenizer.ggml.merges/0"),
    "merge to an unknown token": (with_item("merges", 0, "z z"), "tokenizer.ggml.merges/0"),
    "merge twice": (with_item("merges", 1, "h e"), "tokenizer.ggml.merges/1"),
    "id beyond the vocabulary": (changed(eos_token_id=len(TOKENS)), "tokenizer.ggml.eos_token_id"),
    "id of 2^31": (changed(bos_token_id=1 << 31), "tokenizer.ggml.bos_token_id"),
    "negative id": (changed(unknown_token_id=-1), "tokenizer.ggml.unknown_token_id"),
    "true for an id": (changed(padding_token_id=True), "tokenizer.ggml.padding_token_id"),
    "number for a truth": (changed(add_bos_token=1), "tokenizer.ggml.add_bos_token"),
    "first token without id": (changed(add_bos_token=True, bos_token_id=None), "tokenizer.ggml.bos_token_id"),
    "long template": ({**GOOD, "tokenizer.chat_template": "a" * (TEMPLATE_BYTES + 1)}, "tokenizer.chat_template"),
    "list of templates": ({**GOOD, "tokenizer.chat_template": ["a"]}, "tokenizer.chat_template"),
}


@pytest.mark.parametrize(("metadata", "where"), BAD.values(), ids=BAD)
def test_what_does_not_fit_is_refused_at_its_field(metadata: dict[str, object], where: str) -> None:
    with pytest.raises(ContractError) as refused:
        from_gguf(metadata, FILE)
    assert refused.value.violations[0].where == where
    assert refused.value.violations[0].file == "model.gguf"
    assert all(line.isprintable() for line in refused.value.lines())
