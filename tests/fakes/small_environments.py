"""A project with one small environment, installed by uv from a lock as the real ones are, to be damaged."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from interlock.environments import ROOT, Environment, environments
from pipeline.installed import note
from pipeline.installed.distributions import site_packages

PACKAGES = ("packaging", "idna", "markdown-it-py")  # markdown-it-py has a script in `bin`


@dataclass(frozen=True)
class Small:
    """Environment `small` below `root`."""

    root: Path

    @property
    def env(self) -> Environment:
        return environments(self.root)["small"]

    @property
    def venv(self) -> Path:
        return self.root / "envs" / "small" / ".venv"

    @property
    def site(self) -> Path:
        found = site_packages(self.venv)
        assert found is not None
        return found

    def copy(self, root: Path) -> Small:
        """The same in another place. Nothing in it says where it lies but scripts, which nothing of a test runs."""
        shutil.copytree(self.root, root, symlinks=True, dirs_exist_ok=True)
        return Small(root)


def small(root: Path) -> Small:
    """Make it. uv copies: files that are damaged here are no other environment's."""
    made = Small(root)
    folder = root / "envs" / "small"
    folder.mkdir(parents=True)
    version = ".".join(map(str, sys.version_info[:2]))
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "small"\nversion = "0"\nrequires-python = "=={version}.*"\ndependencies = {list(PACKAGES)}\n'
    )
    real = (ROOT / "envs" / "train" / "requirements.lock").read_text()
    entries = re.split(r"\n(?=[A-Za-z0-9])", real.strip())
    kept = [entry for entry in entries if entry.partition("==")[0] in (*PACKAGES, "mdurl")]
    (folder / "requirements.lock").write_text("\n".join(["--require-hashes", *kept]) + "\n")
    uv("venv", "--no-project", "--python", os.path.realpath(sys.executable), made.venv)
    uv("pip", "sync", "--link-mode", "copy", "--require-hashes", "--python", made.venv, folder / "requirements.lock")
    note.write(made.venv, folder / "requirements.lock", "interlock")
    return made


def uv(*words: object) -> None:
    left_out = ("VIRTUAL_ENV", "PYTHONPATH")
    environ = {name: value for name, value in os.environ.items() if name not in left_out}
    subprocess.run([ROOT / ".venv" / "bin" / "uv", "--quiet", *map(str, words)], check=True, env=environ)
