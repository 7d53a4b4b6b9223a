"""A recipe with a teacher: its answers are a step of the build, under a key of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes.shell import interlock
from fakes.teachers import small_teacher

from interlock.contracts import io
from interlock.contracts.dataset import DatasetContract
from pipeline import recipe
from pipeline.driver.graph import Given, build_graph

pytestmark = pytest.mark.e2e

RECIPE = """
output = "{folder}/out"
outputs = ["dataset"]
toy = true
[data]
task = "permutation-automaton"
parameters = {{train = 40, validation = 8, test = 8, depths = "1..3"}}
[data.teacher]
path = "{folder}/teacher"
top_k = 4
max_new_tokens = 6
[train]
steps = 2
[train.weights]
kl = 1.0
[train.scratch]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("taught")
    small_teacher(folder / "teacher")
    (folder / "taught.toml").write_text(RECIPE.format(folder=folder))
    return folder


def test_the_training_takes_what_the_teacher_answered(place: Path) -> None:
    graph = build_graph(recipe.load(str(place / "taught.toml")), "current")
    (target,) = graph.targets
    teach, data = target.steps["teach"], target.steps["data"]
    assert teach.inputs == {"dataset": data, "teacher": Given(place / "teacher", "checkpoint")}
    assert target.steps["train"].inputs["dataset"] == teach and target.placed[place / "out" / "dataset"] == teach
    assert teach.params == {"splits": ["train"], "temperature": 0.0, "max_new_tokens": 6, "top_k": 4, "tail": "bucket"}


def test_a_build_teaches_once(place: Path) -> None:
    environ = {"INTERLOCK_HOME": str(place / "home"), "INTERLOCK_STORE": str(place / "store")}
    words = ["build", str(place / "taught.toml"), "--only", "teach", "--json"]
    first = interlock(*words, environ=environ)
    assert first.code == 0, first.err
    contract = io.read_artifact(place / "out" / "dataset", DatasetContract)
    assert contract.teaching is not None and contract.teaching.top_k == 4
    assert not list((place / "store" / "state").iterdir()) and not (place / "home" / "teaching").exists()
    again = interlock(*words, environ=environ)
    states = [{step["step"]: step["state"] for step in json.loads(said.out)["steps"]} for said in (first, again)]
    assert [(one["data"], one["teach"]) for one in states] == [("made", "made"), ("kept", "kept")]
