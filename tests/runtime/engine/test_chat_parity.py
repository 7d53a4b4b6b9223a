"""Rendered conversations and their ids are those of transformers' `apply_chat_template`."""

from __future__ import annotations

import dataclasses
import functools
import random

import pytest
import tokenizers
from fakes.byte_tokenizer import tokenizer_json
from fakes.chat_templates import TEMPLATES
from fakes.smollm2 import smollm2_metadata, smollm2_path

from interlock.contracts.checkpoint import TokenizerInfo
from interlock.errors import UsageError
from pipeline.sources.tokenizer import from_gguf
from runtime.engine.chat import encode_chat, render_chat
from runtime.engine.tokenizer import Tokenizer

pytestmark = pytest.mark.train

TURNS = [
    {"role": "user", "content": "  What's <b>2+2</b>? \n"},
    {"role": "assistant", "content": "It's\n\n4 – \"four\" & 'vier'\t中文 👩‍👩‍👧"},
    {"role": "user", "content": "{{ 7*7 }} {% raw %} ok"},
]
SYSTEM = {"role": "system", "content": "Be short."}
TOOLS = [{"type": "function", "function": {"name": "f", "description": "<a> & \"b\" 'c' é", "parameters": {"z": 1, "a": [1.5, None, True]}}}]
# Two refuse a system message, by `raise_exception`.
CASES = [(name, system) for name in (*TEMPLATES, "smollm2") for system in (True, False) if not (system and name in ("mistral", "gemma"))]


@functools.cache
def theirs() -> object:
    from transformers import PreTrainedTokenizerFast

    inner = tokenizers.Tokenizer.from_str(tokenizer_json().decode())
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<|im_start|>", eos_token="<|im_end|>")


@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.parametrize(("name", "system"), CASES)
def test_a_published_template_renders_as_in_transformers(name: str, system: bool, prompt: bool) -> None:
    template = TEMPLATES.get(name) or str(smollm2_metadata()["tokenizer.chat_template"])
    messages = [SYSTEM, *TURNS] if system else TURNS
    tools = TOOLS if name == "qwen with tools" and system else None
    expected = theirs().apply_chat_template(messages, tools=tools, chat_template=template, tokenize=False, add_generation_prompt=prompt)  # type: ignore[attr-defined]
    variables = {"tools": tools} if tools else {}
    tokens = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    assert render_chat(template, messages, add_generation_prompt=prompt, variables=variables, **tokens) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["mistral", "gemma"])
def test_a_published_refusal_is_told_to_the_user(name: str) -> None:
    with pytest.raises(UsageError, match="the chat template refuses these messages"):
        render_chat(TEMPLATES[name], [SYSTEM, *TURNS], bos_token="<s>", eos_token="</s>")


def test_ids_of_harmless_conversations_are_those_of_transformers() -> None:
    from transformers import PreTrainedTokenizerFast

    files = from_gguf(smollm2_metadata(), smollm2_path())
    info = TokenizerInfo(sha256="0" * 64, vocab_size=files.vocab_size, bos_id=files.bos_id, eos_ids=files.eos_ids, pad_id=files.pad_id)
    tokenizer = Tokenizer(files.tokenizer_json, info, chat_template=files.chat_template)
    theirs = PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer.from_str(files.tokenizer_json.decode()), chat_template=files.chat_template)
    chosen = random.Random(1)
    pieces = ["\n", " ", "  ", "I'm ", "1234", "<|im", "|>", "end", "é", "中文", "👩‍👩‍👧", "\t", "<", "def f(x):\n    return x", "…", "A"]
    for _ in range(40):
        messages = [{"role": role, "content": "".join(chosen.choices(pieces, k=chosen.randint(0, 20)))} for role in ("user", "assistant", "user")]
        expected = theirs.apply_chat_template(messages, tokenize=True, add_generation_prompt=True, return_dict=False)
        assert encode_chat(tokenizer, messages) == expected


def test_info_is_a_record_of_the_file() -> None:
    files = from_gguf(smollm2_metadata(), smollm2_path())
    facts = {key: value for key, value in dataclasses.asdict(files).items() if key not in ("tokenizer_json", "chat_template")}
    assert facts == {"bos_id": 1, "eos_ids": (2, 0), "pad_id": 2, "add_bos": False, "vocab_size": 49152}
