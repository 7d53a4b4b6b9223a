"""Task `arithmetic-chains`: every step and answer by another computation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fakes.datasets import made, rows_of

from interlock.errors import UsageError
from pipeline.datasets import tokenizer

pytestmark = pytest.mark.train


@pytest.mark.parametrize("modulus", [3, 11, 100])
def test_steps_and_answers_follow_from_the_prompt(tmp_path: Path, modulus: int) -> None:
    """A chain is the affine map x → a·x + b in whole numbers; it is reduced once, at its end."""
    split = rows_of(tmp_path / "d", made(tmp_path / "d", "arithmetic-chains", modulus=modulus, depths="3..6", train=300, validation=0, test=100))
    assert set(split) == {"train", "test"}
    for row in (*split["train"], *split["test"]):
        found = re.fullmatch(r"(\d+)((?: [am]\d+)+) =", str(row.prompt))
        assert found and row.steps is not None
        start, words = int(found[1]), found[2].split()
        a, b = 1, 0
        for word, step in zip(words, row.steps, strict=True):
            number = int(word[1:])
            assert 1 <= number < modulus and word != "m1"
            a, b = (a, b + number) if word[0] == "a" else (a * number, b * number)
            assert step == f" {word} {(a * start + b) % modulus} ;"
        assert (row.answer, row.metadata["depth"]) == (f" {(a * start + b) % modulus}", len(words))


def test_every_operation_is_drawn_equally_often(tmp_path: Path) -> None:
    """18,000 draws of 2 · 11 - 3 operations: 947 each, with a standard deviation of 30; six of those are allowed."""
    train = rows_of(tmp_path / "d", made(tmp_path / "d", "arithmetic-chains", depths="6..6", train=3000, validation=0, test=0))["train"]
    words = [word for row in train for word in str(row.prompt).split()[1:-1]]
    counts = {word: words.count(word) for word in set(words)}
    assert len(counts) == 19 and all(abs(count - 18_000 / 19) < 180 for count in counts.values())


def test_a_step_is_three_tokens(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    train = rows_of(tmp_path / "d", made(tmp_path / "d", "arithmetic-chains", modulus=100, train=3000, validation=0, test=0))["train"]
    inner = Tokenizer.from_str(tokenizer.train(tokenizer.texts_of(train, {}), 1000).decode())
    assert {len(inner.encode(step).ids) for row in train for step in row.steps or ()} == {3}


@pytest.mark.parametrize("modulus", [2, 101])
def test_a_modulus_out_of_range_is_refused(tmp_path: Path, modulus: int) -> None:
    with pytest.raises(UsageError, match=f"`modulus` is {modulus}"):
        made(tmp_path / "d", "arithmetic-chains", modulus=modulus)
