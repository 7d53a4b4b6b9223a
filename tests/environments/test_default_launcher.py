"""`$INTERLOCK_LAUNCHER`: how stages and verbs of other environments are started where `--launcher` is not given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes.shell import interlock

pytestmark = pytest.mark.train


def test_an_unknown_one_is_refused_by_name(tmp_path: Path) -> None:
    interlock("plan", "random", cwd=tmp_path, environ={"INTERLOCK_LAUNCHER": "rocket"}).refused(2, "there is no launcher `rocket`", "uv, ")


def test_a_verb_of_another_environment_is_started_by_it(tmp_path: Path) -> None:
    """`current` stays in this interpreter, which is not `export`; uv would have left it."""
    said = interlock("export", "--checkpoint", "none", "--out", "out", cwd=tmp_path, environ={"INTERLOCK_LAUNCHER": "current"})
    said.refused(4, "`export` belongs to environment `export`")


def test_packages_that_are_named_and_not_there_are_not_built(tmp_path: Path) -> None:
    environ = {"INTERLOCK_LAUNCHER": "nix", "INTERLOCK_NIX_ENVIRONMENTS": str(tmp_path), "PATH": "/nowhere"}
    said = interlock("build", "random", "--json", cwd=tmp_path, environ=environ)
    said.refused(4, "the packages of this project have no environment", f"INTERLOCK_NIX_ENVIRONMENTS={tmp_path}")
    assert json.loads(said.out)["exit_code"] == 4
