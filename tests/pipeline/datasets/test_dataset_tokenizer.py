"""Tokenizers of datasets: what is one token, what the bytes depend on, and that every reader of tokenizers takes them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.datasets import made, rows_of
from fakes.shell import interlock
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from interlock.contracts.checkpoint import TokenizerInfo
from interlock.environments import ROOT
from interlock.errors import UsageError
from pipeline.datasets import tokenizer
from pipeline.datasets.automaton import OPERATIONS, STATES
from pipeline.sources.tokenizer import from_huggingface
from runtime.engine.tokenizer import Tokenizer as Runtime

pytestmark = pytest.mark.train

TEXTS = ["the theme of the thesis", " then there", "naïve o12 o7", " 1234 12", "x = y;\n\n  z"] * 3


@pytest.fixture(scope="module")
def small() -> Tokenizer:
    return Tokenizer.from_str(tokenizer.train(TEXTS, 300).decode())


def test_each_word_of_the_automaton_is_one_token_with_its_space(tmp_path: Path) -> None:
    train = rows_of(tmp_path / "d", made(tmp_path / "d", "permutation-automaton", train=1200, validation=0, test=0))["train"]
    inner = Tokenizer.from_str(tokenizer.train(tokenizer.texts_of(train, {}), 320).decode())
    words = [f" o{number}" for number in range(OPERATIONS)] + [f" s{number}" for number in range(STATES)] + [" ;", " =", " ."]
    assert [word for word in words if len(inner.encode(word).ids) != 1] == []
    for row in train:
        parts = [inner.encode(part).ids for part in (str(row.prompt), *(row.steps or ()), str(row.answer))]
        depth = row.metadata["depth"]
        assert [len(part) for part in parts] == [6 + 2, *[3] * depth, 1]


def test_special_tokens_come_first_then_bytes_then_merges_of_the_most_frequent_pairs(small: Tokenizer) -> None:
    by_id = {number: token for token, number in small.get_vocab().items()}
    assert tuple(by_id[number] for number in range(9)) == tokenizer.SPECIAL
    assert [small.encode(token).ids for token in ("<bot>", "<eot>")] == [[3], [4]]
    assert sorted(len(by_id[number]) for number in range(9, 265)) == [1] * 256
    # Counted by hand: `th` and `he` stand six times in a round of TEXTS, more than any other pair, and tie by id: h before t.
    assert by_id[265] == "he"


@settings(max_examples=60, deadline=None)
@given(st.text())
def test_every_text_comes_back_in_nfc(small: Tokenizer, text: str) -> None:
    import unicodedata

    composed = unicodedata.normalize("NFC", text)
    assert small.decode(small.encode(text).ids, skip_special_tokens=False) == composed
    assert small.encode(composed).ids == small.encode(text).ids


def test_the_bytes_depend_on_neither_the_order_of_texts_nor_threads() -> None:
    script = "import sys; from pipeline.datasets import tokenizer as t; sys.stdout.buffer.write(t.train(eval(sys.stdin.read()), 300))"
    found = {tokenizer.train(TEXTS[::-1], 300)}
    for threads in ("1", "5"):
        environ = {**os.environ, "RAYON_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "true"}
        child = subprocess.run([sys.executable, "-c", script], input=repr(TEXTS).encode(), capture_output=True, check=True, cwd=ROOT, env=environ)
        found.add(child.stdout)
    assert len(found) == 1


def test_the_verb_makes_a_directory_that_import_and_runtime_take(tmp_path: Path) -> None:
    contract = made(tmp_path / "d", "permutation-automaton", train=300, validation=0, test=20)
    said = interlock("data", "tokenizer", tmp_path / "d", "--vocab-size", 280, "--out", tmp_path / "t", "--json")
    told = json.loads(said.out)
    files = from_huggingface(tmp_path / "t")
    digest = hashlib.sha256(files.tokenizer_json).hexdigest()
    assert (said.code, told["dataset"], told["vocab_size"], told["sha256"]) == (0, contract.digest, 280, digest) and files.vocab_size == 280
    assert (files.eos_ids, files.pad_id, files.bos_id, files.add_bos) == ((2, 0), 0, None, False)
    runtime = Runtime(files.tokenizer_json, TokenizerInfo(sha256=digest, vocab_size=280, eos_ids=files.eos_ids))
    assert runtime.decode(runtime.encode("s3 o5 <bot>")) == "s3 o5 <bot>" and 3 not in runtime.encode("<bot>")
    again = interlock("data", "tokenizer", tmp_path / "d", "--vocab-size", 280, "--out", tmp_path / "t")
    assert again.code == 0 and (tmp_path / "t" / "tokenizer.json").read_bytes() == files.tokenizer_json
    (tmp_path / "t" / "notes.txt").write_text("mine")
    interlock("data", "tokenizer", tmp_path / "d", "--vocab-size", 280, "--out", tmp_path / "t").refused(2, "files that interlock did not write")


@pytest.mark.parametrize("size", [264, (1 << 18) + 1])
def test_a_size_that_cannot_be_is_refused(size: int) -> None:
    with pytest.raises(UsageError, match=f"a vocabulary of {size} ids"):
        tokenizer.train(TEXTS, size)
