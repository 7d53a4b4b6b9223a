"""A Hugging Face directory's tokenizer: taken over as it is, or refused; hostile files end in a child and not in this process."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes.byte_tokenizer import CHATML, tokenizer_json

from interlock.errors import ContractError
from pipeline.sources.tokenizer import from_huggingface

Document = dict[str, Any]
GOOD = json.loads(tokenizer_json())
IDS = {entry["content"]: entry["id"] for entry in GOOD["added_tokens"]}


def directory(path: Path, document: object = GOOD, **side: object) -> Path:
    (path / "tokenizer.json").write_text(json.dumps(document))
    for name, content in side.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return path


def test_names_become_ids_and_the_file_stays_as_it_is(tmp_path: Path) -> None:
    config = {
        "bos_token": {"content": "<|im_start|>", "special": True},
        "eos_token": "<|im_end|>",
        "pad_token": None,
        "model_max_length": 1000000000000000019884624838656,
        "chat_template": CHATML,
    }
    files = from_huggingface(directory(tmp_path, tokenizer_config=config, special_tokens_map={"pad_token": "<|endoftext|>"}))
    assert files.tokenizer_json == (tmp_path / "tokenizer.json").read_bytes()
    assert (files.bos_id, files.eos_ids, files.pad_id) == (IDS["<|im_start|>"], (IDS["<|im_end|>"], IDS["<|endoftext|>"]), IDS["<|endoftext|>"])
    assert (files.add_bos, files.vocab_size, files.chat_template) == (False, max(IDS.values()) + 1, CHATML)


def test_generation_config_adds_ends(tmp_path: Path) -> None:
    files = from_huggingface(
        directory(tmp_path, tokenizer_config={"eos_token": "<|endoftext|>"}, generation_config={"eos_token_id": [5, IDS["<|im_end|>"]]})
    )
    assert files.eos_ids == (IDS["<|endoftext|>"], 5, IDS["<|im_end|>"])


def test_the_first_token_is_added_where_the_files_own_processor_does(tmp_path: Path) -> None:
    start = IDS["<|im_start|>"]
    processor = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|im_start|>": {"id": "<|im_start|>", "ids": [start], "tokens": ["<|im_start|>"]}},
    }
    assert (
        from_huggingface(directory(tmp_path, {**GOOD, "post_processor": processor}, tokenizer_config={"bos_token": "<|im_start|>"})).add_bos is True
    )


def test_a_template_file_goes_before_the_configuration_and_default_before_others(tmp_path: Path) -> None:
    named = [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]
    assert from_huggingface(directory(tmp_path, tokenizer_config={"chat_template": named})).chat_template == "d"
    (tmp_path / "chat_template.jinja").write_text("f")
    assert from_huggingface(tmp_path).chat_template == "f"


def edited(edit: Callable[[Document], object]) -> Document:
    document: Document = json.loads(tokenizer_json())
    edit(document)
    return document


def pattern(regex: str) -> Document:
    return edited(lambda d: d.update(pre_tokenizer={"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}))


def added(content: object, i: object) -> Document:
    entry = {"id": i, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return edited(lambda d: d["added_tokens"].append(entry))


HOSTILE: dict[str, tuple[Document, str]] = {
    "unigram": (edited(lambda d: d["model"].update(type="Unigram")), "/model/type"),
    "sentencepiece decoder": (edited(lambda d: d.update(decoder={"type": "Metaspace"})), "/decoder/type"),
    "dropout": (edited(lambda d: d["model"].update(dropout=0.5)), "/model/dropout"),
    "suffix": (edited(lambda d: d["model"].update(end_of_word_suffix="</w>")), "/model/end_of_word_suffix"),
    "id of 2^31": (edited(lambda d: d["model"]["vocab"].update(x=1 << 31)), "/model/vocab"),
    "negative id": (edited(lambda d: d["model"]["vocab"].update(zz=-1)), "/model/vocab"),
    "id twice": (edited(lambda d: d["model"]["vocab"].update(zz=3)), "/model/vocab"),
    "fractional id": (edited(lambda d: d["model"]["vocab"].update(zz=3.5)), "/model/vocab"),
    "long token": (edited(lambda d: d["model"]["vocab"].update({"a" * 2000: 900})), "/model/vocab"),
    "merge of unknown parts": (edited(lambda d: d["model"]["merges"].append(["zz", "z"])), "/model/merges/8"),
    "merge longer than any token": (edited(lambda d: d["model"]["merges"].append(["hello", "hello"])), "/model/merges/8"),
    "merges of numbers": (edited(lambda d: d["model"]["merges"].append([1, 2])), "/model/merges/8"),
    "added id of 2^31": (added("<x>", 1 << 31), "/added_tokens/3/id"),
    "added token with the id of another": (added("<x>", 5), "/added_tokens/3/id"),
    "added token without text": (added("", 900), "/added_tokens/3"),
    "added token of 1 MB": (added("a" * 1_000_000, 900), "/added_tokens/3"),
    "pattern that hangs": (pattern(r"(a+)+$"), ""),
    "pattern that does not compile": (pattern("(((("), ""),
    "unknown component": (edited(lambda d: d.update(pre_tokenizer={"type": "Nothing"})), ""),
}


@pytest.mark.parametrize(("document", "where"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_tokenizer_is_refused_in_time(tmp_path: Path, capfd: pytest.CaptureFixture[str], document: Document, where: str) -> None:
    began = time.monotonic()
    with pytest.raises(ContractError) as refused:
        from_huggingface(directory(tmp_path, document))
    assert time.monotonic() - began < 22
    assert refused.value.violations[0].where == where
    assert capfd.readouterr().err == ""  # a panic of the library would have written a backtrace


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{", b'{"a": 1, "a": 2}', b'{"a": NaN}', b"\xff{}", b'{"a":' * 100_000, b'{"a": ' + b"1" * 5000 + b"}"],
    ids=["empty", "list", "cut", "key twice", "NaN", "not UTF-8", "deep", "long number"],
)
def test_what_is_not_strict_json_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(data)
    with pytest.raises(ContractError, match=r"tokenizer\.json"):
        from_huggingface(tmp_path)


@pytest.mark.parametrize(
    ("side", "content"),
    [
        ("tokenizer_config", {"bos_token": "<nowhere>"}),
        ("tokenizer_config", {"eos_token": 7}),
        ("generation_config", {"eos_token_id": [99999]}),
        ("generation_config", {"eos_token_id": "2"}),
        ("tokenizer_config", {"chat_template": 5}),
    ],
)
def test_a_wrong_name_or_id_beside_it_is_refused_in_its_own_file(tmp_path: Path, side: str, content: object) -> None:
    with pytest.raises(ContractError) as refused:
        from_huggingface(directory(tmp_path, **{side: content}))
    assert refused.value.violations[0].file.endswith(f"{side}.json")


def test_a_pipe_does_not_block_and_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"tokenizer\.json"):
        from_huggingface(tmp_path)
    os.mkfifo(tmp_path / "tokenizer.json")
    with pytest.raises(ContractError, match="regular file"):
        from_huggingface(tmp_path)
