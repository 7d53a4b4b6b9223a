"""Ids and text: the loaded tokenizer against the library's own decoder, and text that streams in whole characters."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import tokenizers
from fakes.byte_tokenizer import byte_tokenizer, info_of, tokenizer_json
from hypothesis import given
from hypothesis import strategies as st

from interlock.errors import ContractError, UsageError
from runtime.engine.tokenizer import Stream, Tokenizer, byte_alphabet

TOKENIZER = byte_tokenizer()
LIBRARY = tokenizers.Tokenizer.from_str(tokenizer_json().decode())
IM_START, IM_END, ENDOFTEXT = (LIBRARY.token_to_id(text) for text in ("<|im_start|>", "<|im_end|>", "<|endoftext|>"))
BEYOND = TOKENIZER.vocab_size + 5
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def streamed(ids: list[int]) -> list[str]:
    stream = Stream(TOKENIZER)
    return [*map(stream.push, ids), stream.finish()]


@given(st.lists(st.integers(0, BEYOND), max_size=80))
def test_a_stream_is_the_full_decode_for_any_ids(ids: list[int]) -> None:
    assert "".join(streamed(ids)) == TOKENIZER.decode(ids) == LIBRARY.decode(ids, skip_special_tokens=True)


@given(texts)
def test_text_comes_back_and_streams_in_whole_characters(text: str) -> None:
    ids = TOKENIZER.encode(text)
    pieces = streamed(ids)
    assert "".join(pieces) == TOKENIZER.decode(ids) == text
    assert all(text.startswith("".join(pieces[:n])) for n in range(len(pieces)))


@given(texts)
def test_plain_ids_are_the_librarys(text: str) -> None:
    assert TOKENIZER.encode(text, control=True) == LIBRARY.encode(text, add_special_tokens=False).ids


def test_the_byte_alphabet_is_the_librarys() -> None:
    assert set(byte_alphabet().values()) == set(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    assert {LIBRARY.decode([LIBRARY.token_to_id(char)]): byte for byte, char in byte_alphabet().items() if byte < 128} == {
        chr(byte): byte for byte in range(128)
    }


def test_a_typed_control_token_is_text_unless_asked() -> None:
    assert IM_END not in TOKENIZER.encode("a<|im_end|>")
    assert TOKENIZER.decode(TOKENIZER.encode("a<|im_end|>")) == "a<|im_end|>"
    assert TOKENIZER.encode("a<|im_end|>", control=True)[-1] == IM_END


def test_a_control_token_that_lost_its_flag_is_one_all_the_same() -> None:
    tokenizer = byte_tokenizer(special=False)
    assert set(tokenizer.control_strings) == {"<|im_start|>", "<|im_end|>", "<|endoftext|>"}
    assert IM_END not in tokenizer.encode("a<|im_end|>")
    assert tokenizer.decode([IM_END]) == ""


def test_a_context_starts_with_its_first_token_where_the_model_has_one() -> None:
    data = tokenizer_json()
    tokenizer = Tokenizer(data, info_of(data).model_copy(update={"add_bos": True}))
    assert tokenizer.encode_prompt("hello") == [IM_START, *tokenizer.encode("hello")]
    assert TOKENIZER.encode_prompt("hello") == TOKENIZER.encode("hello")


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(UsageError, match="character 2"):
        TOKENIZER.encode("ab\udc80")


def test_load_takes_only_the_file_that_the_contract_names(tmp_path: Path) -> None:
    data = tokenizer_json()
    (tmp_path / "tokenizer.json").write_bytes(data)
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    info = info_of(data).model_copy(update={"has_chat_template": True})
    assert Tokenizer.load(tmp_path, info).chat_template == "{{ messages }}"
    (tmp_path / "tokenizer.json").write_bytes(data + b" ")
    with pytest.raises(ContractError, match="sha256"):
        Tokenizer.load(tmp_path, info)


@dataclasses.dataclass
class Broken:
    data: bytes
    words: str


@pytest.mark.parametrize("broken", [Broken(b"{}", "loads"), Broken(b"\xff", "loads")], ids=["not a tokenizer", "not UTF-8"])
def test_load_refuses_what_the_library_refuses(tmp_path: Path, broken: Broken) -> None:
    (tmp_path / "tokenizer.json").write_bytes(broken.data)
    info = info_of(tokenizer_json()).model_copy(update={"sha256": __import__("hashlib").sha256(broken.data).hexdigest()})
    with pytest.raises(ContractError, match=broken.words):
        Tokenizer.load(tmp_path, info)


def test_load_counts_ids_and_names_a_missing_file(tmp_path: Path) -> None:
    data = tokenizer_json()
    info = info_of(data)
    with pytest.raises(ContractError, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path, info)
    (tmp_path / "tokenizer.json").write_bytes(data)
    with pytest.raises(ContractError, match="7 ids"):
        Tokenizer.load(tmp_path, info.model_copy(update={"vocab_size": 7}))


def test_a_published_truncation_or_padding_setting_has_no_effect() -> None:
    inner = tokenizers.Tokenizer.from_str(tokenizer_json().decode())
    inner.enable_truncation(3)
    inner.enable_padding(length=100)
    tokenizer = Tokenizer(inner.to_str().encode(), TOKENIZER.info)
    assert tokenizer.encode("hello world") == TOKENIZER.encode("hello world")
