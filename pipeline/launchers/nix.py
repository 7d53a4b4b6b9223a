"""Launcher `nix`: the packages of the flake, one per environment, each with its own copy of the project.

Here: building them with nix, seeing whether they are those of this working tree, starting a verb in them. Not here: what is in them (nix/).
A package is a link in the project's `.interlock/nix/`, which keeps it from Nix's garbage collection. A program of the flake that has all packages
(`nix run`) names their folder by `$INTERLOCK_NIX_ENVIRONMENTS`, and nothing is built.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from interlock.environments import ROOT, Environment, python_version_in
from interlock.errors import EnvironmentRefused
from pipeline.launchers import Job

ELSEWHERE = False
NIX = ("nix", "--extra-experimental-features", "nix-command flakes")
LEFT_OUT = ("__pycache__", ".venv")  # as in nix/project.nix


def ready(env: Environment) -> bool:
    """Whether its package was made from this working tree as it is now: every file in the package's copy is compared, which takes milliseconds."""
    copy = (_package(env) / "project").resolve()
    return copy == ROOT or (copy.is_dir() and all(_same(ROOT / top.name, top) for top in copy.iterdir()))


def prepare(env: Environment) -> None:
    """Build its package. Raises EnvironmentRefused."""
    if ready(env):
        return
    system = system_name()
    required = f"the package `{env.name}` of the flake, with Python {env.requires_python}"
    if system not in env.definition["tool"]["interlock"]["systems"]:
        raise EnvironmentRefused(
            f"environment `{env.name}` does not exist on {system}",
            required=f"one of {', '.join(env.definition['tool']['interlock']['systems'])} (systems of envs/{env.name}/pyproject.toml)",
            running=system,
            remedy="run this step on one of those systems",
        )
    if (given := _given()) is not None:
        raise EnvironmentRefused(
            f"the packages of this project have no environment `{env.name}`",
            required=required,
            running=f"INTERLOCK_NIX_ENVIRONMENTS={given}",
            remedy="unset INTERLOCK_NIX_ENVIRONMENTS, or start interlock by `nix run`, which sets it",
        )
    try:
        words = ["build", "--file", str(ROOT), f"packages.{system}.{env.name}", "--out-link", str(_package(env))]
        built = subprocess.run([*NIX, *words], stdout=sys.stderr, check=False)
    except FileNotFoundError:
        raise EnvironmentRefused(
            f"environment `{env.name}` could not be built: there is no `nix` on PATH",
            required=required,
            running="no nix",
            remedy="install it (https://nixos.org/download), or use another launcher: --launcher uv",
        ) from None
    if built.returncode:
        raise EnvironmentRefused(
            f"environment `{env.name}` could not be built by nix",
            required=required,
            running="see the lines above",
            remedy="mend what they name, then run the same command again",
        )


def python_version(env: Environment) -> str | None:
    return python_version_in(_package(env))


def image(env: Environment) -> str | None:
    """The package's path in the store: a name for every file in it, the project's included."""
    package = _package(env)
    return str(package.resolve()) if package.exists() else None


def command(env: Environment, argv: Sequence[str], job: Job | None = None) -> list[str]:
    """The package's interpreter, isolated from PYTHONPATH, user site and the current folder (`-I`)."""
    return [str(_package(env).resolve() / "bin" / "python"), "-I", "-m", "pipeline.here", *argv]


def _package(env: Environment) -> Path:
    from pipeline.driver.store import project_folder

    return (_given() or project_folder() / "nix") / env.name


def _given() -> Path | None:
    named = os.environ.get("INTERLOCK_NIX_ENVIRONMENTS")
    return Path(named) if named else None


def system_name() -> str:
    """This machine as Nix names it: `x86_64-linux`, `aarch64-darwin`."""
    machine = platform.machine().lower()
    return f"{ {'arm64': 'aarch64', 'amd64': 'x86_64'}.get(machine, machine) }-{sys.platform}"


def _same(ours: Path, copy: Path) -> bool:
    """Whether a file or a folder of the working tree is what the package's copy of it is."""
    if copy.is_file():
        return ours.is_file() and ours.read_bytes() == copy.read_bytes()
    names = _names(ours)
    return names == _names(copy) and all(_same(ours / name, copy / name) for name in names)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in LEFT_OUT) if folder.is_dir() else []
