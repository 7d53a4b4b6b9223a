"""Task `permutation-automaton`: its operations, its answers by another computation, its splits."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from fakes.datasets import made, rows_of

from interlock.errors import UsageError
from pipeline.datasets.automaton import OPERATIONS, PERMUTATIONS, STATES

pytestmark = pytest.mark.train

TASK = "permutation-automaton"


def test_the_operations_are_the_published_ones_and_generate_every_permutation() -> None:
    """Order 8! means the symmetric group, which is not solvable: the states after k operations have no shortcut."""
    assert PERMUTATIONS[0] == (1, 3, 2, 4, 5, 6, 0, 7) and PERMUTATIONS[15] == (7, 0, 4, 2, 5, 3, 6, 1)
    assert len(set(PERMUTATIONS)) == OPERATIONS and all(sorted(one) == list(range(STATES)) for one in PERMUTATIONS)
    group = {tuple(range(STATES))}
    edge = list(group)
    while edge:
        edge = [*{tuple(one[s] for s in known) for known in edge for one in PERMUTATIONS} - group]
        group |= set(edge)
    assert len(group) == 40_320


def test_steps_and_answers_follow_from_the_prompt(tmp_path: Path) -> None:
    """By products of permutation matrices instead of a table look-up."""
    contract = made(tmp_path / "d", TASK, train=600, validation=60, test=60)
    matrices = [[[int(one[column] == row) for column in range(STATES)] for row in range(STATES)] for one in PERMUTATIONS]
    for row in (row for split in rows_of(tmp_path / "d", contract).values() for row in split):
        found = re.fullmatch(r"s([0-7])((?: o(?:\d|1[0-5]))+)((?: \.)*) =", str(row.prompt))
        assert found and row.steps is not None and len(str(row.prompt).split()) == 1 + 6 + 1  # the room of the greatest depth
        operations = [int(word[1:]) for word in found[2].split()]
        vector = [int(state == int(found[1])) for state in range(STATES)]
        for operation, step in zip(operations, row.steps, strict=True):
            vector = [sum(a * b for a, b in zip(line, vector, strict=True)) for line in matrices[operation]]
            assert step == f" o{operation} s{vector.index(1)} ;"
        assert (row.answer, row.metadata) == (f" s{vector.index(1)}", {"depth": len(operations)})


def test_depths_are_balanced_and_held_out_prompts_are_distinct(tmp_path: Path) -> None:
    contract = made(tmp_path / "d", TASK, train=600, validation=600, test=6000, depths="1..6")
    split = rows_of(tmp_path / "d", contract)
    assert Counter(row.metadata["depth"] for row in split["train"]) == dict.fromkeys(range(1, 7), 100)
    # A depth of 128 or 2,048 prompts gives an eighth of them; the others share the rest.
    assert Counter(row.metadata["depth"] for row in split["test"]) == {1: 16, 2: 256, 3: 1432, 4: 1432, 5: 1432, 6: 1432}
    held = [row.prompt for name in ("validation", "test") for row in split[name]]
    assert len(set(held)) == len(held) and set(held).isdisjoint(row.prompt for row in split["train"])


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_rows(tmp_path: Path) -> None:
    few = {"train": 300, "validation": 0, "test": 60}
    one, same, other = (made(tmp_path / name, TASK, seed, **few) for name, seed in (("a", 3), ("b", 3), ("c", 4)))
    assert one.digest == same.digest != other.digest
    assert (tmp_path / "a" / "train.jsonl").read_bytes() == (tmp_path / "b" / "train.jsonl").read_bytes()
    prompts = [{row.prompt for row in rows_of(tmp_path / name, contract)["train"] if row.metadata["depth"] == 6} for name, contract in
               (("a", one), ("c", other))]  # fmt: skip
    assert prompts[0].isdisjoint(prompts[1])


def test_what_is_held_out_does_not_change_with_the_rows_to_train_on(tmp_path: Path) -> None:
    made(tmp_path / "a", TASK, train=10, validation=60, test=300), made(tmp_path / "b", TASK, train=500, validation=60, test=300)
    assert (tmp_path / "a" / "test.jsonl").read_bytes() == (tmp_path / "b" / "test.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"depths": "1..1", "test": 17}, "an eighth of those there are: 16"),
        ({"depths": "0..3"}, "`depths` is `0..3`"),
        ({"depths": "6"}, "`depths` is `6`"),
        ({"depths": 6}, "`depths` of task `permutation-automaton` is `6`"),
        ({"train": 0, "validation": 0, "test": 0}, "every split has 0 rows"),
        ({"train": -1}, "cannot have -1 rows"),
        ({"dev": 5}, "no parameter `dev`"),
    ],
)
def test_what_cannot_be_made_is_refused_and_nothing_is_published(tmp_path: Path, parameters: dict[str, int | str], told: str) -> None:
    with pytest.raises(UsageError, match=told.replace("(", r"\(")):
        made(tmp_path / "d", TASK, **parameters)
    assert list(tmp_path.iterdir()) == []
