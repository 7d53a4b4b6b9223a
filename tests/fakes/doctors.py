"""What the doctor looks at, small enough to be broken: a clone without its rooms, whose environments are the real ones.

Also one check by its name, and programs that answer as a broken one does.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from interlock.environments import ROOT, environments
from pipeline.doctor.checks import OF_ARTIFACT, OF_MACHINE
from pipeline.doctor.finding import Finding
from pipeline.doctor.place import Place
from pipeline.doctor.running import examine
from pipeline.driver.store import Store

FILES = ("tox.ini", "pyproject.toml", "flake.nix", "ci")
TOOLS = (".uv", ".venv")


def clone(folder: Path, launcher: str = "uv") -> Place:
    """Locks, definitions and scripts are copies; the tools and the environments are links to the real ones, to be replaced by what is broken."""
    shutil.copytree(ROOT / "envs", folder / "envs", ignore=shutil.ignore_patterns(".venv", "compat"))
    for name in FILES:
        source = ROOT / name
        shutil.copytree(source, folder / name) if source.is_dir() else shutil.copy(source, folder / name)
    for name in TOOLS:
        (folder / name).symlink_to(ROOT / name)
    for env in environments().values():
        (folder / "envs" / env.name / ".venv").symlink_to(env.folder / ".venv")
    return Place(folder, Store(folder / ".interlock" / "store"), launcher)


def looked(place: Place, *names: str) -> list[Finding]:
    """What these checks find, as `interlock doctor` runs them."""
    chosen = [check for check in OF_MACHINE + OF_ARTIFACT if check.name in names]
    assert len(chosen) == len(names)
    return examine(chosen, place)


def wrong(findings: list[Finding]) -> list[Finding]:
    """All that is above info; each says what it expects, what to do and where it was seen."""
    found = [finding for finding in findings if finding.level != "info"]
    assert all(finding.expected and finding.remedy for finding in found)
    return found


def program(folder: Path, name: str, text: str) -> Path:
    """A shell script that stands for a program."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path
