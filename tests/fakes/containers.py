"""A copy of the project whose environments are images, made and run by the real engine of this machine, with a storage of its own.

All wheels lie in the base image, which is made of this machine's own Python, so that a build needs no network.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakes.shell import Said, run
from fakes.small_projects import small_project

from interlock.environments import ROOT, Environment, environments


def settings() -> dict[str, str]:
    """How containers run here. Where there is no engine the test is skipped, and in CI on Linux it fails."""
    found = subprocess.run([ROOT / "ci" / "container-engine"], capture_output=True, text=True, check=False)
    if found.returncode and (sys.platform != "linux" or not os.environ.get("CI")):
        pytest.skip("there is no container engine here, and ci/container-engine cannot install one")
    assert found.returncode == 0, found.stderr
    lines = [shlex.split(line)[0].partition("=") for line in found.stdout.splitlines()]
    return {"INTERLOCK_CONTAINER_ENGINE": os.environ.get("INTERLOCK_CONTAINER_ENGINE", "podman")} | {name: value for name, _, value in lines}


@dataclass(frozen=True)
class ContainerProject:
    """The copy in `base / "project"`; a driver for it in `base / "python"`."""

    base: Path
    runroot: Path
    environ: dict[str, str]

    @property
    def root(self) -> Path:
        return self.base / "project"

    @property
    def env(self) -> Environment:
        return environments(self.root)["train"]

    @property
    def calls(self) -> list[str]:
        """What the engine was asked, one line each."""
        file = self.base / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def engine(self, *words: str) -> Said:
        return run([*shlex.split(self.environ["INTERLOCK_CONTAINER_ENGINE"]), *words], environ=self.environ)

    def containers(self) -> list[str]:
        """Names of all that run or ran and are not gone."""
        return self.engine("ps", "--all", "--format", "{{.Names}}").out.split()

    def remove(self) -> None:
        for container in self.containers():
            self.engine("rm", "--force", container)
        self.engine("rmi", "--all", "--force")
        shutil.rmtree(self.runroot, ignore_errors=True)


def container_project(base: Path) -> ContainerProject:
    """A copy of the working tree in `base`, its base image made, no image of an environment yet."""
    here = settings()
    made = ContainerProject(base, _engine(base, here), here | {"INTERLOCK_CONTAINER_BASE": "localhost/base:{python}"})
    small_project(base)
    _base_image(made)
    return made


def _engine(base: Path, here: dict[str, str]) -> Path:
    """The engine of this machine with a storage of its own, behind a program of its name that writes down what it is asked. Returns its run root."""
    words = shlex.split(here["INTERLOCK_CONTAINER_ENGINE"])
    name, program = Path(words[0]).name, shutil.which(words[0])
    assert program is not None
    # podman refuses a longer path than 50 characters here, and folders of tests have longer ones.
    runroot = Path(tempfile.mkdtemp(prefix="run-", dir="/tmp"))
    own = ["--root", str(base / "storage"), "--runroot", str(runroot)] if name == "podman" else []
    (base / "bin").mkdir()
    file = base / "bin" / name
    file.write_text(f'#!/bin/sh\necho "$*" >>{base}/calls\nexec {shlex.join([program, *words[1:], *own])} "$@"\n')
    file.chmod(0o755)
    here["INTERLOCK_CONTAINER_ENGINE"] = str(file)
    return runroot


def _base_image(made: ContainerProject) -> None:
    """`localhost/base:3.13`, and under the name of 3.11 the same: what a person gets who names the wrong one."""
    bare = subprocess.run(
        [ROOT / "ci" / "base-image", "3.13", "localhost/bare:3.13"], env=os.environ | made.environ, capture_output=True, check=False
    )
    assert bare.returncode == 0, bare.stderr
    pip = [str(ROOT / ".uv" / "bin" / "python"), "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--python-version=3.13"]
    wheels = made.base / "wheels"
    entries = made.env.lock_file.read_text().replace("interlock-stub==", "# interlock-stub==")
    (made.base / "all.txt").write_text(entries + (ROOT / "ci" / "uv.txt").read_text())
    subprocess.run([*pip, "--require-hashes", "--dest", str(wheels), "--requirement", str(made.base / "all.txt")], check=True)
    recipe = made.base / "Containerfile"
    recipe.write_text(
        "FROM localhost/bare:3.13\nCOPY wheels /wheels\nENV PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels UV_NO_INDEX=1 UV_FIND_LINKS=/wheels UV_OFFLINE=1\n"
    )
    (made.base / ".dockerignore").write_text("*\n!wheels\n")
    further = shlex.split(made.environ.get("INTERLOCK_CONTAINER_BUILD", ""))
    said = made.engine("build", *further, "--tag", "localhost/base:3.13", "--tag", "localhost/base:3.11", "--file", str(recipe), str(made.base))
    assert said.code == 0, said.err
