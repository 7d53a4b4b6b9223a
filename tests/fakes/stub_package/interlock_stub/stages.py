"""Two stages: `words` makes rows from a text, `louder` makes rows from rows. Both make a dataset.

Their parameters let tests choose sizes, durations and failures.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from interlock.contracts import dataset
from interlock.errors import GateFailed
from interlock.fs import Workspace
from interlock.voice import Voice
from pipeline.driver import stage


class Params(stage.Params):
    """`text` is repeated `rows` times; `sleep_s` is how long the work takes; `refuse` fails as a gate does."""

    text: str = "word"
    rows: int = 3
    sleep_s: float = 0.0
    refuse: bool = False


class Louder(Params):
    """`source` is the dataset that is made louder by `times` exclamation marks."""

    source: Path
    times: int = 1


def _outcome(params: Params, lines: list[str], work: Workspace) -> stage.Outcome:
    time.sleep(params.sleep_s)
    if params.refuse:
        raise GateFailed("the words are not good enough", measured="1", threshold="2", remedy="find better ones")
    half = max(1, len(lines) // 2)
    splits = {"train": lines[:half], "test": lines[half:] or lines[:1]}
    for name, rows in splits.items():
        work.write(f"{name}.jsonl", "".join(json.dumps({"text": row}) + "\n" for row in rows).encode())
    parameters = {"text": params.text, "rows": params.rows}
    return stage.Outcome(
        {
            "task": "stub",
            "generator": dataset.Generator(name="interlock_stub", seed=0, parameters=parameters),
            "origin": None,
            "splits": {name: dataset.Split(files=(f"{name}.jsonl",), rows=len(rows)) for name, rows in splits.items()},
            "tokenizer": None,
            "licence": "MIT",
        }
    )


def words(params: Params, work: Workspace, voice: Voice) -> stage.Outcome:
    return _outcome(params, [f"{params.text} {number}" for number in range(params.rows)], work)


def louder(params: Louder, work: Workspace, voice: Voice) -> stage.Outcome:
    rows = [json.loads(line)["text"] for name in ("train.jsonl", "test.jsonl") for line in (params.source / name).read_text().splitlines()]
    return _outcome(params, [row + "!" * params.times for row in rows], work)


WORDS = stage.Stage("words", "train", "dataset", Params, words, __name__)
LOUDER = stage.Stage("louder", "train", "dataset", Louder, louder, __name__, inputs={"source": "dataset"})
