"""`interlock ci matrix` and the workflows: one source, held against tox's own reading of tox.ini, the definitions and the files of .github."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from interlock.environments import ROOT, environments
from pipeline import ci

pytestmark = pytest.mark.train
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TOX = ROOT / ".venv" / "bin" / "tox"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """What the verb prints with an interpreter that has no package."""
    command = [sys._base_executable, "-S", "-m", "pipeline.here", "ci", "matrix", "--json"]  # type: ignore[attr-defined]
    made: dict[str, Any] = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True, env={"PATH": "/nowhere"}).stdout)
    return made


def jobs() -> list[Any]:
    parsed = [(file, yaml.safe_load(file.read_text())) for file in WORKFLOWS]
    return [pytest.param(workflow, job, id=f"{file.stem}-{name}") for file, workflow in parsed for name, job in workflow["jobs"].items()]


def test_each_row_is_what_tox_says_of_its_environment(document: dict[str, Any]) -> None:
    rows = document["include"] + document["nightly"]
    names = sorted({row["tox"] for row in rows})
    asked = [str(TOX), "config", "-q", "-e", ",".join(names), "-k", "base_python", "commands_pre"]
    said = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True, env=os.environ | {"NO_COLOR": "1"}).stdout
    told = {part.partition("]")[0]: part for part in said.split("[testenv:")[1:]}
    assert sorted(told) == names, "the matrix names what tox does not know"
    for row in rows:
        text = told[row["tox"]]
        assert (
            re.search(rf"^base_python = (python|py){row['python']}$", text, re.M)
            or f"py{row['python'].replace('.', '')}" == row["tox"].rpartition("-")[2]
        ), text
        assert f" {row['environment']} " in text if row["environment"] else " install " not in text, text
        assert row["lock"].rpartition("/")[2] in text and (ROOT / row["lock"]).is_file(), text


def test_every_environment_is_tested_on_each_of_its_systems(document: dict[str, Any]) -> None:
    tested = {(row["environment"], row["system"]) for row in document["include"] if row["tox"].startswith("test-")}
    assert tested == {(env.name, system) for env in environments().values() for system in env.definition["tool"]["interlock"]["systems"]}
    listed = {name.strip() for name in re.search(r"^env_list = (.*)", (ROOT / "tox.ini").read_text(), re.M)[1].split(",")}  # type: ignore[index]
    assert {row["tox"] for row in document["include"]} == listed


def test_a_system_without_an_environment_says_what_is_not_run_there(document: dict[str, Any]) -> None:
    whole = set.intersection(*(set(env.definition["tool"]["interlock"]["systems"]) for env in environments().values()))
    assert all((row["limits"] is None) == (row["system"] in whole) for row in document["include"]), "limits"


def test_a_new_system_of_a_definition_is_a_new_row(tmp_path: Path) -> None:
    for name, systems in (("export", '["x86_64-linux", "aarch64-linux"]'), ("train", '["x86_64-linux"]')):
        folder = tmp_path / "envs" / name
        folder.mkdir(parents=True)
        (folder / "pyproject.toml").write_text(f"[tool.interlock]\nsystems = {systems}\n")
    (tmp_path / "tox.ini").write_text((ROOT / "tox.ini").read_text())
    rows = ci.matrix(tmp_path)["include"]
    assert {row["system"] for row in rows if row["tox"] == "test-export"} == {"x86_64-linux", "aarch64-linux"}
    assert {row["system"] for row in rows if row["tox"] == "test-train"} == {"x86_64-linux"}


def test_the_workflows_run_the_matrix_and_use_no_field_that_it_lacks(document: dict[str, Any]) -> None:
    said = subprocess.run([ROOT / "ci" / "matrix"], capture_output=True, text=True, check=True).stdout
    outputs = dict(line.split("=", 1) for line in said.splitlines())
    assert json.loads(outputs["changes"]) == {"include": document["include"]} and json.loads(outputs["nightly"]) == {"include": document["nightly"]}
    assert json.loads(outputs["pythons"]).split("\n") == document["pythons"]
    derived = 0
    for workflow in (yaml.safe_load(file.read_text()) for file in WORKFLOWS):
        for job in workflow["jobs"].values():
            matrix = job.get("strategy", {}).get("matrix")
            if isinstance(matrix, str):
                assert re.fullmatch(r"\$\{\{ fromJSON\(needs\.matrix\.outputs\.(changes|nightly)\) \}\}", matrix)
                assert set(re.findall(r"\bmatrix\.(\w+)", json.dumps({**job, "strategy": None}))) - {"outputs"} <= document["include"][0].keys()
                derived += 1
            elif matrix:
                assert not {"os", "python", "tox", "environment"} & set(json.dumps(matrix).split('"')), "a second matrix"
    assert derived == 2


@pytest.mark.parametrize(("workflow", "job"), jobs())
def test_a_job_calls_what_a_person_can_call(workflow: dict[str, Any], job: dict[str, Any]) -> None:
    """Scripts of ci/ and targets of make, nothing else; and it ends by itself."""
    assert workflow["permissions"] == {} and job["permissions"]["contents"] == "read" and job["timeout-minutes"] <= 180
    commands = [step["run"] for step in job["steps"] if "run" in step]
    chosen = job.get("strategy", {}).get("matrix")
    commands += [one["command"] for one in chosen["include"]] if isinstance(chosen, dict) else []
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    for command in (part.strip().removeprefix("sudo ") for line in commands for part in line.split("&&")):
        first, *rest = command.split()
        assert first == "$COMMAND" or (ROOT / first).is_file() or (first == "make" and rest[0] in targets), command


def test_secrets_are_asked_for_by_the_publishing_job_alone() -> None:
    every = {file.stem: yaml.safe_load(file.read_text())["jobs"] for file in WORKFLOWS}
    asking = {(file, name) for file, named in every.items() for name, job in named.items() if len(job["permissions"]) > 1}
    assert asking == {("release", "publish")}
    release = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
    assert release[True] == {"push": {"tags": ["v*"]}} and release["jobs"]["publish"]["environment"] == "release"  # `on` is a boolean of YAML 1.1
    assert not any("secrets." in file.read_text() for file in WORKFLOWS)
