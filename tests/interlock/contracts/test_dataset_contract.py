"""Rules between the fields of a dataset contract."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.artifacts import resealed, write_dataset

from interlock.contracts import dataset, io
from interlock.errors import ContractError


def refused(tmp_path: Path, **changes: Any) -> str:
    """What the reader says about a dataset with other values and true digests."""
    document = json.loads(io.pretty(write_dataset(tmp_path))) | changes
    (tmp_path / dataset.FILE).write_text(json.dumps(resealed(document)))
    with pytest.raises(ContractError) as error:
        io.read_artifact(tmp_path, dataset.DatasetContract)
    return " ".join(f"{violation.where} {violation.expected}" for violation in error.value.violations)


ORIGIN = {"form": "jsonl", "name": "rows.jsonl", "sha256": "0" * 64}
TEACHING = {"teacher": None, "name": "t", "temperature": 0.0, "seed": None, "max_new_tokens": 8, "top_k": 0, "tail": None, "files": []}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"generator": None}, "generated or imported"),
        ({"origin": ORIGIN}, "generated or imported"),
        ({"splits": {}}, "/splits"),
        ({"splits": {"train": {"files": [], "rows": 1}}}, "/splits/train/files"),
        ({"splits": {"train": {"files": ["train.jsonl"], "rows": 0}}}, "/splits/train/rows"),
        ({"splits": {"train": {"files": ["absent.jsonl"], "rows": 1}}}, "absent.jsonl is named and not in files"),
        ({"splits": {"a": {"files": ["train.jsonl"], "rows": 3}, "b": {"files": ["train.jsonl"], "rows": 3}}}, "train.jsonl is named twice"),
        ({"tools": {"registry": "absent.json", "fixtures": ["fixtures.jsonl"], "source": "generated"}}, "absent.json is named and not in files"),
        ({"tools": {"registry": "tools.json", "fixtures": ["test.jsonl"], "source": "generated"}}, "test.jsonl is named twice"),
        ({"teaching": TEACHING | {"top_k": 2}}, "there together"),
        ({"teaching": TEACHING | {"tail": "zero"}}, "there together"),
        ({"teaching": TEACHING | {"files": ["teacher.bin"]}}, "there together"),
        ({"tokenizer": None}, "digest of the tokenizer"),
        ({"schema_version": 1}, "/schema_version"),
    ],
)
def test_a_dataset_that_contradicts_itself_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    assert said in refused(tmp_path, **changes)


def test_an_imported_set_of_text_needs_neither_generator_nor_tokenizer(tmp_path: Path) -> None:
    document = json.loads(io.pretty(write_dataset(tmp_path)))
    document |= {"generator": None, "origin": ORIGIN, "tokenizer": None, "teaching": TEACHING}
    (tmp_path / dataset.FILE).write_text(json.dumps(resealed(document)))
    assert io.read_artifact(tmp_path, dataset.DatasetContract).origin == dataset.Origin(form="jsonl", name="rows.jsonl", sha256="0" * 64)
