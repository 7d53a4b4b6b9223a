"""The command line's manners: quick help, near misses, one message for each mistake."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.artifacts import write_checkpoint
from fakes.shell import interlock

from pipeline.verbs import VERBS, Verb


def test_help_names_every_verb_and_every_exit_code() -> None:
    said = interlock("--help")
    assert said.code == 0
    for verb in VERBS:
        assert f"  {verb.name}" in said.out and verb.example in said.out
    assert all(f"{code} " in said.out for code in (0, 2, 3, 4, 5, 6, 130))


@pytest.mark.parametrize("verb", [verb.name for verb in VERBS])
def test_every_verb_has_help_with_an_example(verb: str) -> None:
    said = interlock(verb, "--help")
    assert said.code == 0 and "example:" in said.out and "--json" in said.out


def test_help_costs_less_than_0_3_seconds_of_processor_and_imports_nothing_heavy() -> None:
    script = "import sys; from pipeline import cli; cli.main(['--help']); sys.exit(bool({'torch','numpy','pydantic','rich'} & set(sys.modules)))"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert subprocess.run([sys.executable, "-c", script], stdout=subprocess.DEVNULL, check=False).returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_a_verb_imports_no_tensor_library_before_its_options_are_read(verb: Verb) -> None:
    script = f"import sys, {verb.module}; print({{'torch', 'numpy', 'coremltools', 'transformers', 'tokenizers'}} & set(sys.modules))"
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert child.stdout == "set()\n"


def test_near_misses_are_named() -> None:
    interlock("imprt").refused(2, "did you mean `import`?")
    interlock("verify", "x", "--jsn").refused(2, "`--jsn`", "did you mean `--json`?")
    interlock("deploy", "--checkpoint", "x").refused(2, "--out-dir")


def test_errors_are_documents_too_with_json(tmp_path: Path) -> None:
    said = interlock("verify", tmp_path, "--json")
    assert said.code == 3
    document = json.loads(said.out)
    assert document["error"] == "contract" and document["violations"][0]["file"] == str(tmp_path) and document["remedy"]


def test_verify_names_the_changed_file_and_nothing_else(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    assert interlock("verify", tmp_path).code == 0
    (tmp_path / "tokenizer.json").write_bytes(b"[]")
    said = interlock("verify", tmp_path)
    said.refused(3, str(tmp_path / "tokenizer.json"))
    assert "model.safetensors" not in said.err


def test_a_name_cannot_steer_the_terminal(tmp_path: Path) -> None:
    said = interlock("verify", tmp_path / "\x1b]0;owned\x07\u202e")
    assert said.code == 3 and "\x1b" not in said.err and "\u202e" not in said.err and "\\x1b" in said.err


def test_a_closed_pipe_is_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    child = subprocess.run([sys.executable, "-m", "pipeline.cli", "--help"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert "Traceback" not in child.stderr
