"""A copy of the project whose locks were made anew.

Here: what is copied, an edited definition, `ci/lock` in the copy, which versions moved. Not here: whether they may (verdict.py).
The project's own locks are only read: what resolving does, and what a failure leaves, stays in the copy.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from interlock.environments import Environment, environments
from interlock.errors import StageFailed, UsageError
from interlock.fs import Workspace
from pipeline.driver.children import surroundings

ROOMS = ("ci", "envs", "eval", "interlock", "pipeline", "runtime")
FILES = ("LICENSE", "README.md", "flake.nix", "pyproject.toml", "tox.ini")
# uv and tox of the project itself, which `ci/env` would otherwise fetch again.
TOOLS = (".uv", ".venv")

Moved = dict[str, tuple[str, str]]


@dataclass(frozen=True)
class Wish:
    """Which environments to move: every package as far as the definitions allow, or `package` alone, if given to `version`."""

    names: tuple[str, ...]
    package: str | None = None
    version: str | None = None

    @property
    def command(self) -> str:
        """The command line that asks for it."""
        options = [*(("--package", self.package) if self.package else ()), *(("--to", self.version) if self.version else ())]
        return " ".join(["interlock", "env", "update", *self.names, *options])


@dataclass(frozen=True)
class Proposal:
    """The copy, and by environment the versions that moved: before and after, `absent` where a package came or went."""

    tree: Path
    moved: dict[str, Moved]

    @property
    def empty(self) -> bool:
        return not any(self.moved.values())


def check(wish: Wish, root: Path) -> None:
    """Refuse what cannot be asked. Raises UsageError."""
    known = environments(root)
    if unknown := [name for name in wish.names if name not in known]:
        raise UsageError(f"there is no environment `{unknown[0]}`", remedy=f"there are {', '.join(known)}")
    if wish.version and not wish.package:
        raise UsageError("`--to` names the version of one package", remedy="name the package with --package, or leave --to out to move all")
    absent = [name for name in wish.names if wish.package and wish.package.lower() not in known[name].locked()]
    if absent:
        remedy = f"its lock is envs/{absent[0]}/requirements.lock; what it must have is named in envs/{absent[0]}/pyproject.toml"
        raise UsageError(f"environment `{absent[0]}` has no package `{wish.package}`", remedy=remedy)


def propose(wish: Wish, root: Path, tree: Path, work: Workspace) -> Proposal:
    """Fill the empty directory `tree` with the project and lock there. Raises StageFailed with what the resolver said."""
    for room in ROOMS:
        copy(root / room, tree / room, work)
    for file in FILES:
        copy(root / file, tree / file, work)
    for tool in TOOLS:
        if (root / tool).is_dir():
            work.fs.symlink(str(root / tool), tree / tool)
    copied = environments(tree)
    for name in wish.names:
        if wish.package and wish.version:
            _allow(copied[name], wish.package, wish.version, work)
        _lock(tree, name, wish)
    before, after = environments(root), environments(tree)
    return Proposal(tree, {name: moved(before[name].locked(), after[name].locked()) for name in wish.names})


def copy(source: Path, target: Path, work: Workspace) -> None:
    """A file with its right to be run, or a directory without what tools leave in it."""
    if not source.is_dir():
        work.fs.copy(source, target)
        work.fs.chmod(target, source.stat().st_mode & 0o777)
        return
    work.fs.mkdir(target)
    for child in sorted(source.iterdir()):
        if child.name not in (".venv", "__pycache__") and not child.is_symlink():
            copy(child, target / child.name, work)


def moved(before: dict[str, str], after: dict[str, str]) -> Moved:
    """Packages whose locked versions differ."""
    names = sorted({*before, *after})
    return {name: (before.get(name, "absent"), after.get(name, "absent")) for name in names if before.get(name) != after.get(name)}


def _allow(env: Environment, package: str, version: str, work: Workspace) -> None:
    """Change the definition where it does not allow that version of a direct dependency: to exactly this one."""
    from packaging.requirements import Requirement

    file = env.folder / "pyproject.toml"
    text = file.read_text(encoding="utf-8")
    for line in env.definition["project"]["dependencies"]:
        need = Requirement(line)
        if need.name.lower() == package.lower() and not need.specifier.contains(version, prereleases=True):
            wanted = f"{need.name}=={version}" + (f" ; {need.marker}" if need.marker else "")
            replaced = re.sub(rf'(["\']){re.escape(line)}\1', f'"{wanted}"', text)
            work.fs.unlink(file)
            work.fs.write(file, replaced.encode())


def _lock(tree: Path, name: str, wish: Wish) -> None:
    how = ["--upgrade"]
    if wish.package:
        how = ["--upgrade-package", f"{wish.package}=={wish.version}" if wish.version else wish.package]
    run_in(tree, [str(tree / "ci" / "lock"), *how, name], f"no lock of `{name}` could be made", f"choose other versions: `{wish.command}`")


def run_in(tree: Path, command: Sequence[str], problem: str, remedy: str) -> str:
    """What a command of the project prints. Raises StageFailed with its last lines."""
    ended = subprocess.run(command, cwd=tree, env=surroundings(), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if ended.returncode:
        said = "\n  ".join(ended.stderr.strip().splitlines()[-12:])
        raise StageFailed(f"{problem}:\n  {said}", remedy=remedy)
    return ended.stdout
