"""Both whole environments built by a real nix, and the recipe `random` under the launchers: minutes and gigabytes, so `ci/test-nix` asks for it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import clones
from fakes.nix import NixProject, nix_project
from fakes.shell import Said, run

from interlock.environments import environments

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.environ.get("INTERLOCK_NIX") != "whole", reason="takes minutes and 20 GB: ci/test-nix runs it"),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NixProject]:
    made = nix_project(tmp_path_factory.mktemp("nix"))
    made.lock_stand_in()
    yield made
    made.remove()


def timed(what: str, said: Said, started: float) -> Said:
    assert said.code == 0, said.err
    print(f"{time.monotonic() - started:7.1f} s  {what}")
    return said


def test_whole_environments_are_built_checked_and_make_what_uv_makes(project: NixProject, tmp_path: Path) -> None:
    names = sorted(environments())
    for name in names:
        started = time.monotonic()
        project.fetch(name)
        print(f"\n{time.monotonic() - started:7.1f} s  fetch {len(project.wheels(name)['wheels'])} wheels of {name}")
        started = time.monotonic()
        timed(f"nix build .#{name}", project.nix("build", f".#{name}", "--out-link", str(project.base / name)), started)
        closure = project.nix("path-info", "--closure-size", str((project.base / name).resolve()))
        print(f"{int(closure.out.split()[-1]) / 1e9:7.2f} GB {name} and all that it refers to")
    for what in ("nix flake check", "nix flake check, again"):
        started = time.monotonic()
        timed(what, project.flake("check"), started)

    digests = {"uv": built_by(project, "uv", tmp_path), "nix": built_by(project, "nix", tmp_path)}
    folder = tmp_path / "run"
    folder.mkdir()
    started = time.monotonic()
    command = ["nix", "run", f"path:{project.root}#interlock", "--", "build", "random", "--json"]
    digests["nix run"] = steps(timed("nix run .#interlock -- build random", run(command, cwd=folder, environ=environ(project, folder)), started))
    print(json.dumps(digests, indent=1))
    assert digests["uv"] == digests["nix"] == digests["nix run"] and "deploy" in digests["uv"]


def built_by(project: NixProject, launcher: str, tmp_path: Path) -> dict[str, str]:
    """The digest of each step of the recipe `random`, driven from the copy's working tree and its environment of uv."""
    folder = tmp_path / launcher
    folder.mkdir()
    command = [str(uv_python(project)), "-I", "-m", "pipeline.cli", "build", "random", "--launcher", launcher, "--json"]
    started = time.monotonic()
    made = steps(timed(f"interlock build random --launcher {launcher}", run(command, cwd=folder, environ=environ(project, folder)), started))
    started = time.monotonic()
    timed(f"interlock build random --launcher {launcher}, again", run(command, cwd=folder, environ=environ(project, folder)), started)
    return made


def uv_python(project: NixProject) -> Path:
    """The interpreter of the copy's own environment `train`; all are made, of the packages of the real ones."""
    for name, env in environments().items():
        if not (project.root / "envs" / name / ".venv").exists():
            clones.venv_like(env, project.root)
    return project.root / "envs" / "train" / ".venv" / "bin" / "python"


def environ(project: NixProject, folder: Path) -> dict[str, str]:
    return project.environ | {"INTERLOCK_HOME": str(folder / "home")}


def steps(said: Said) -> dict[str, str]:
    return {step["step"]: step["digest"] for step in json.loads(said.out)["steps"]}
