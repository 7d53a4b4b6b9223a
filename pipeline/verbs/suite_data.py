"""The dataset of a suite, made where it is not there yet.

Here: whether what lies there is the one that is asked for. Not here: making it (pipeline/stages/data.py).
The same task, seed and parameters are other rows where another version of interlock made them: it has other templates, or other names to fill them.
"""

from __future__ import annotations

from pathlib import Path

from eval.suite import Source
from interlock.command import Session
from interlock.contracts import dataset, io
from interlock.errors import ContractError
from pipeline.datasets import generators, tasks
from pipeline.driver import keys, stage
from pipeline.stages import data


def beside(source: Source, out: Path, session: Session) -> Path:
    """`dataset-NAME` beside `out`. Raises UsageError for a task or parameter that is none, or where something else lies there."""
    directory = out.parent / f"dataset-{out.name}"
    wanted = dataset.Generator(name=source.task, seed=source.seed, parameters=tasks.settled(generators.task(source.task), source.parameters))
    if not _lies(directory, wanted):
        params = data.Params(task=source.task, out=directory, seed=source.seed, parameters=source.parameters)
        stage.run(data.STAGE, params, session.voice, session.argv)
    return directory


def _lies(directory: Path, wanted: dataset.Generator) -> bool:
    try:
        found = io.read_artifact(directory, dataset.DatasetContract)
    except ContractError:
        return False
    return found.generator == wanted and found.created_by.source_digest == keys.source_digest(data.STAGE.module)
