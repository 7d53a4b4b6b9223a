"""A copy of the project whose environments are small: what interlock's command line imports, and the stub stages.

Here: the copy in `base / "project"`, the wheel of the stub stages in `base / "wheels"`, and a driver for it. Not here: its environments, which each
launcher makes in its own way.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import venv
from pathlib import Path

from fakes.stub_builds import SMALL, STUB, stub_wheel

from interlock.environments import ROOT, environments

PARTS = (
    "interlock", "pipeline", "runtime", "eval", "envs", "ci", "pyproject.toml", "tox.ini", "README.md", "LICENSE", "Containerfile", ".dockerignore",
)  # fmt: skip
# The project is installed with what its environment has.
BUILD = {"hatchling", "pathspec", "pluggy", "trove-classifiers"}


def small_project(base: Path) -> Path:
    """Make it; its folder."""
    root = base / "project"
    copy_tree(root, PARTS)
    for name in environments():
        _shrink(root / "envs" / name)
    (base / "wheels").mkdir()
    wheel = stub_wheel(base / "wheels")
    with (root / "envs" / "train" / "requirements.lock").open("a") as lock:
        lock.write(f"interlock-stub==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    make_driver(base)
    return root


def copy_tree(root: Path, parts: tuple[str, ...]) -> None:
    """A copy of the working tree, without what was made in it."""
    leave = shutil.ignore_patterns(".venv", "__pycache__", ".*_cache")
    for part in parts:
        source, target = ROOT / part, root / part
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target, ignore=leave) if source.is_dir() else shutil.copy2(source, target)


def _shrink(folder: Path) -> None:
    """Leave in a definition and its lock what the command line needs."""
    keep = SMALL | BUILD
    definition, lock = folder / "pyproject.toml", folder / "requirements.lock"
    needed = re.findall(r'^    "([A-Za-z0-9-]+)', definition.read_text(), re.MULTILINE)
    text = definition.read_text()
    for dependency in set(needed) - keep:
        text = re.sub(rf'^    "{dependency}\b.*\n', "", text, flags=re.MULTILINE)
    definition.write_text(text)
    entries = re.split(r"^(?=\S)", lock.read_text(), flags=re.MULTILINE)
    lock.write_text("".join(entry for entry in entries if entry.startswith("--") or entry.partition("==")[0] in keep))


def make_driver(base: Path) -> None:
    """A Python whose project is the copy, with the packages of the running one and the stub stages, for the driver and for launcher `current`."""
    folder = base / "python"
    venv.create(folder, symlinks=True)
    site = next((folder / "lib").glob("python*/site-packages"))
    packages = [path for path in sys.path if path.endswith("site-packages")]
    (site / "copy.pth").write_text("\n".join([str(base / "project"), str(STUB), *packages]) + "\n")


def driver(base: Path, *words: object) -> list[str]:
    """`interlock WORDS` by that Python."""
    return [str(base / "python" / "bin" / "python"), "-I", "-m", "pipeline.here", *map(str, words)]
