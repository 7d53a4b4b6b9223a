"""Datasets made for tests, by the stages themselves or by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fakes.makers import maker

from interlock.contracts import dataset, io
from interlock.contracts.dataset import DatasetContract
from interlock.voice import SilentVoice
from pipeline.datasets.reading import read_split
from pipeline.datasets.rows import Row
from pipeline.driver import stage
from pipeline.stages import data


def made(out: Path, task: str, seed: int = 3, **parameters: int | str) -> DatasetContract:
    """Stage `data` run here; `train`, `validation` and `test` are among the parameters."""
    contract = stage.run(data.STAGE, data.Params(task=task, out=out, seed=seed, parameters=parameters), SilentVoice()).contract
    assert isinstance(contract, DatasetContract)
    return contract


def rows_of(out: Path, contract: DatasetContract) -> dict[str, tuple[Row, ...]]:
    return {name: read_split(out, contract, name, SilentVoice()) for name in contract.splits}


def written(directory: Path, splits: dict[str, list[Any]], tools: dataset.Tools | None = None) -> DatasetContract:
    """A dataset with a whole contract over these rows, right or wrong; `tools` names files that lie there already."""
    directory.mkdir(exist_ok=True)
    for name, rows in splits.items():
        (directory / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    contract = DatasetContract(
        created_by=maker("data"),
        inputs=(),
        files=io.entries(directory),
        task="by hand",
        generator=dataset.Generator(name="by hand", seed=0, parameters={}),
        origin=None,
        splits={name: dataset.Split(files=(f"{name}.jsonl",), rows=len(rows)) for name, rows in splits.items()},
        tokenizer=None,
        tools=tools,
        licence="CC0-1.0",
    ).sealed()
    assert isinstance(contract, DatasetContract)
    (directory / dataset.FILE).write_bytes(io.pretty(contract))
    return contract
