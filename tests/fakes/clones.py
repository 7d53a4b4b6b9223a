"""Clones of the project with environments of their own: the locked packages of the real ones, and what a test installs beside them."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from fakes.shell import Said

from interlock.environments import ROOT, Environment, environments

ROOMS = ("interlock", "pipeline", "runtime", "eval", "envs", "ci", "examples")
FILES = ("pyproject.toml", "tox.ini", "README.md", "LICENSE")
UV = ROOT / ".venv" / "bin" / "uv"


@dataclass(frozen=True)
class Clone:
    """A clone in `root`. Builds run in `root` too, so that their store is its own."""

    root: Path

    def python(self, environment: str) -> Path:
        return self.root / "envs" / environment / ".venv" / "bin" / "python"

    def install(self, folder: Path, *environments: str, editable: bool = True) -> None:
        """Install a package of source as docs/plugins.md says, without the network."""
        target = [*(["--editable"] if editable else []), str(folder)]
        for name in environments:
            self._pip(name, "install", "--offline", "--no-index", "--no-deps", "--no-build-isolation", *target)

    def uninstall(self, distribution: str, *environments: str) -> None:
        for name in environments:
            self._pip(name, "uninstall", distribution)

    def _pip(self, environment: str, verb: str, *words: str) -> None:
        where = ["--quiet", "--python", str(self.root / "envs" / environment / ".venv")]
        subprocess.run([UV, "pip", verb, *where, *words], check=True, cwd=self.root, env=_surroundings())

    def interlock(self, *words: str) -> Said:
        """One command line, as from the shell of a user whose current folder is the clone."""
        command = [self.python("train"), "-I", "-m", "pipeline.cli", *words]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.root, env=_surroundings())
        return Said(ended.returncode, ended.stdout, ended.stderr)


def clone(folder: Path, source: Path = ROOT) -> Clone:
    """A clone of the working tree in `folder`, with an environment for each of the real ones."""
    leave = shutil.ignore_patterns(".venv", "__pycache__", "*.egg-info", ".*_cache")
    for room in ROOMS:
        shutil.copytree(source / room, folder / room, ignore=leave)
    for file in FILES:
        shutil.copy2(source / file, folder / file)
    for env in environments().values():
        venv_like(env, folder)
    return Clone(folder)


def venv_like(env: Environment, folder: Path) -> None:
    """Make an environment of the clone in `folder`: its own interpreter and project, the packages of the real one."""
    venv = folder / "envs" / env.name / ".venv"
    subprocess.run([UV, "venv", "--quiet", "--no-project", "--python", str(env.python.resolve()), str(venv)], check=True, env=_surroundings())
    (_site_packages(venv) / "_clone.pth").write_text(f"{folder}\n{_site_packages(env.folder / '.venv')}\n")
    (venv / ".synced").write_bytes(env.lock_file.read_bytes())


def _site_packages(venv: Path) -> Path:
    (found,) = venv.glob("lib/python3*/site-packages")
    return found


def _surroundings() -> dict[str, str]:
    left_out = ("INTERLOCK_", "VIRTUAL_ENV", "PYTHON")
    return {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
