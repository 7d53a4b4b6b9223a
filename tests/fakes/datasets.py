"""Datasets made for tests, by the stages themselves."""

from __future__ import annotations

from pathlib import Path

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
