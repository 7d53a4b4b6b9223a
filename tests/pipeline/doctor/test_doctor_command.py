"""`interlock doctor` as a process, where other verbs do not start: without packages, without the train environment, without UTF-8."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from fakes.doctors import clone
from fakes.shell import Said, interlock, run

from interlock.environments import ROOT
from pipeline.doctor.checks import OF_MACHINE

pytestmark = pytest.mark.train


def errors(said: Said) -> dict[str, str]:
    """What of a report is wrong, by check."""
    assert "Traceback" not in said.err, said.err
    document = json.loads(said.out)
    assert document["exit_code"] == said.code
    assert {one["check"] for one in document["findings"]} == {check.name for check in OF_MACHINE}
    return {one["check"]: one["found"] for one in document["findings"] if one["level"] == "error"}


def test_a_python_removed_from_path_ends_in_exit_code_4(tmp_path: Path) -> None:
    (tmp_path / "python3.13").symlink_to((ROOT / "envs" / "train" / ".venv" / "bin" / "python").resolve())
    environ = {name: str(tmp_path) for name in ("PATH", "HOME", "PYENV_ROOT", "UV_PYTHON_INSTALL_DIR")}
    said = interlock("doctor", "--json", environ=environ)
    assert said.code == 4
    assert errors(said).keys() == {"interpreters"} and "python3.11 is not there" in errors(said)["interpreters"]


def test_it_needs_no_package_at_all() -> None:
    said = run([sys.executable, "-S", "-m", "pipeline.cli", "doctor", "--json"])
    assert errors(said) == {} and said.code == 0
    lacking = [one for one in json.loads(said.out)["findings"] if "no package `packaging`" in one["found"]]
    assert lacking and all(one["level"] == "warning" and one["remedy"] == "make environments" for one in lacking)


def test_an_encoding_that_cannot_say_everything_is_a_finding_and_no_crash() -> None:
    said = interlock("doctor", environ={"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "INTERLOCK_LAUNCHER": "größer"})
    assert "output in ascii" in said.out and "gr\\xf6\\xdfer" in said.out and "Traceback" not in said.err


def test_doctor_starts_where_the_train_environment_does_not(tmp_path: Path) -> None:
    place = clone(tmp_path)
    for room in ("interlock", "pipeline", "runtime"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    venv = tmp_path / "envs" / "train" / ".venv"
    venv.unlink()
    run([str(tmp_path / "ci" / "interlock"), "build", "random"], cwd=tmp_path).refused(4, "train environment", "interlock doctor")
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to("/opt/gone/python3.13")
    shutil.copy(ROOT / "envs" / "train" / ".venv" / "bin" / "interlock", venv / "bin")
    run([str(tmp_path / "ci" / "interlock"), "build", "random"], cwd=tmp_path).refused(4, "train environment", "interlock doctor")
    said = run([str(tmp_path / "ci" / "interlock"), "doctor", "--json"], cwd=tmp_path)
    assert said.code == 4 and "leads to no file" in errors(said)["virtual-environments"]
    assert not place.store.root.exists()


def test_a_copy_of_the_project_is_no_broken_clone(tmp_path: Path) -> None:
    """As in an image: what only a clone has is not missed there."""
    for room in ("interlock", "pipeline", "runtime", "eval"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    for env in ("export", "train"):
        (tmp_path / "envs" / env).mkdir(parents=True)
        for name in ("pyproject.toml", "requirements.lock"):
            shutil.copy(ROOT / "envs" / env / name, tmp_path / "envs" / env)
    environ = {"PYTHONPATH": str(tmp_path), "INTERLOCK_LAUNCHER": "current"}
    said = run([sys.executable, "-m", "pipeline.cli", "doctor", "--json"], cwd=tmp_path, environ=environ)
    assert said.code == 0, said.out
    found = json.loads(said.out)["findings"]
    assert [one for one in found if one["level"] == "error"] == [] and any("no clone" in one["found"] for one in found)


def test_the_command_beside_uv_and_tox_goes_through_it() -> None:
    """ci/env writes it; where it was written before, it is the environment's own."""
    text = (ROOT / "ci" / "env").read_text()
    assert 'exec "%s/ci/interlock" "$@"' in text and os.access(ROOT / "ci" / "interlock", os.X_OK)
