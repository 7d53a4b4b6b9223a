"""Options of a form: what they say of an answer, and what is refused before a model is loaded."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from fakes.byte_tokenizer import byte_tokenizer

from interlock.errors import ContractError, UsageError
from runtime.engine.turn import GenerationParams
from runtime.tools.options import Form, add_form_options, form_of

pytestmark = pytest.mark.train


def form(*words: str, raw: bool = False) -> Form:
    parser = argparse.ArgumentParser()
    add_form_options(parser)
    return form_of(argparse.Namespace(**vars(parser.parse_args(words)), raw=raw))


def write(folder: Path, value: object) -> str:
    path = folder / "file.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return str(path)


def test_each_option_is_a_description(tmp_path: Path) -> None:
    schema = form("--json-schema", write(tmp_path, {"type": "boolean"}))
    assert schema.source and schema.source.kind == "JSON schema"
    grammar = form("--grammar", write(tmp_path, 'start: "a"'))
    assert grammar.source and grammar.source.kind == "grammar"
    for words, kind in ((["--regex", "a+"], "regular expression"), (["--choice", "a", "--choice", "b"], "choices")):
        made = form(*words)
        assert made.source and made.source.kind == kind
        assert made.hold(byte_tokenizer(), GenerationParams()).constraint is not None
    assert form() == Form() and form().hold(byte_tokenizer(), GenerationParams()) == GenerationParams()


def test_tools_are_asked_with_and_calls_told(tmp_path: Path) -> None:
    path = write(tmp_path, [{"type": "function", "function": {"name": "one"}}, {"type": "function", "function": {"name": "two"}}])
    made = form("--tools", path, "--tool-choice", "two")
    asked = made.ask(byte_tokenizer(), [{"role": "user", "content": "?"}], GenerationParams())
    assert asked.params.constraint is not None and '"two"' in byte_tokenizer().decode(asked.prompt_ids)
    assert made.result('<tool_call>[{"name": "two", "arguments": {}}]</tool_call>') == {"tool_calls": [{"name": "two", "arguments": {}}]}
    assert form().result("<tool_call>") == {}
    with pytest.raises(UsageError, match="`three`, which is no tool"):
        form("--tools", path, "--tool-choice", "three")
    with pytest.raises(UsageError, match="--raw"):
        form("--tools", path, raw=True)


def test_wrong_files_and_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="belongs to --tools"):
        form("--tool-choice", "auto")
    with pytest.raises(UsageError, match="cannot be read"):
        form("--json-schema", str(tmp_path / "none.json"))
    with pytest.raises(ContractError, match=r"expected a JSON list, found a JSON object"):
        form("--tools", write(tmp_path, "{}"))
    for option, text in (("--json-schema", "[]"), ("--json-schema", "{"), ("--tools", "{}"), ("--tools", "[" * 5000), ("--grammar", "a" * (2 << 20))):
        with pytest.raises(ContractError):
            form(option, write(tmp_path, text))
