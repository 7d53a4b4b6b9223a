"""Stage `data`: a task and a seed in, a dataset out.

Here: what is written, and the proof that no split knows another. Not here: the rows (pipeline/datasets), datasets from elsewhere (data_import.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from pydantic import Field

from interlock.canonical import canonical_json
from interlock.contracts import dataset
from interlock.errors import StageFailed
from interlock.fs import Workspace
from interlock.voice import Task as Progress
from interlock.voice import Voice
from pipeline.datasets import generators, tasks
from pipeline.datasets.rows import Row, likeness
from pipeline.datasets.tools import FIXTURES, REGISTRY, Fixture, Registry, answered, fixture, pretty
from pipeline.driver import stage


class Params(stage.Params):
    """`parameters` are those of the task, and the rows of each split by its name; defaults stand for what is left out."""

    task: str
    seed: int = 0
    parameters: dict[str, bool | int | float | str] = Field(default_factory=dict)


def work(params: Params, work: Workspace, voice: Voice) -> stage.Outcome:
    chosen = generators.task(params.task)
    parameters = tasks.settled(chosen, params.parameters)
    wanted = {name: int(parameters[name]) for name in tasks.SPLITS if parameters.get(name)}
    prompts: dict[bytes, str] = {}
    clusters: dict[str, str] = {}
    fixtures: dict[str, Fixture] = {}
    for name, rows in wanted.items():
        own = {key: value for key, value in parameters.items() if key not in chosen.rows}
        order = tasks.Order(params.seed, name, rows, own, frozenset(prompts))
        with voice.task(f"make {name}", rows, "rows") as progress:
            made = _counted(apart(chosen.make(order), name, prompts, clusters), rows, progress)
            made = _with_fixtures(made, chosen.registry, fixtures) if chosen.registry else made
            work.stream(file_of(name), (row.line() for row in made))
    if chosen.registry:
        work.write(REGISTRY, pretty(chosen.registry))
        work.stream(FIXTURES, (canonical_json(fixtures[digest].model_dump()) + b"\n" for digest in sorted(fixtures)))
    return stage.Outcome(
        body={
            "task": params.task,
            "generator": dataset.Generator(name=params.task, seed=params.seed, parameters=parameters),
            "origin": None,
            "splits": {name: dataset.Split(files=(file_of(name),), rows=wanted[name]) for name in reversed(wanted)},
            "tokenizer": None,
            "tools": dataset.Tools(registry=REGISTRY, fixtures=(FIXTURES,), source="generated") if chosen.registry else None,
            "licence": chosen.licence,
        }
    )


STAGE = stage.Stage("data", "train", "dataset", Params, work, __name__)


def file_of(split: str) -> str:
    return f"{split}.jsonl"


def apart(rows: Iterable[Row], split: str, prompts: dict[bytes, str], clusters: dict[str, str]) -> Iterator[Row]:
    """The same rows, each proven to share neither prompt nor cluster with another split; the two tables say whose each is. Raises StageFailed."""
    for row in rows:
        if (other := prompts.setdefault(likeness(row.given), split)) != split:
            raise _leak(row, split, other, "prompt")
        for cluster in row.clusters:
            if (other := clusters.setdefault(cluster, split)) != split:
                raise _leak(row, split, other, f"cluster `{cluster}`")
        yield row


def _with_fixtures(rows: Iterable[Row], registry: Registry, fixtures: dict[str, Fixture]) -> Iterator[Row]:
    """The same rows; every call of theirs with its answer goes into `fixtures`. Raises StageFailed where one call has two answers."""
    for row in rows:
        for call, reply in answered(row):
            one = fixture(registry[call.name], call, json.loads(reply or "null"))
            if fixtures.setdefault(one.digest, one) != one:
                raise StageFailed(f"row `{row.id}` has another answer of `{call.name}`", remedy="this is a bug of the generator")
        yield row


def _leak(row: Row, split: str, other: str, what: str) -> StageFailed:
    return StageFailed(f"row `{row.id}` of split `{split}` has a {what} of split `{other}`", remedy="this is a bug of the generator")


def _counted(rows: Iterable[Row], wanted: int, progress: Progress) -> Iterator[Row]:
    made = 0
    for row in rows:
        progress.advance()
        made += 1
        yield row
    if made != wanted:
        raise StageFailed(f"{made} rows were made of {wanted}", remedy="this is a bug of the generator")
