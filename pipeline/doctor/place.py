"""What is looked at: a clone, its store, perhaps an artifact directory.

Here: the record that every check is handed, and what several of them read. Not here: any check.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interlock.environments import Environment, environments
from interlock.errors import StageFailed
from pipeline.doctor.finding import Finding, error, optional
from pipeline.driver.store import Store

if TYPE_CHECKING:
    from pipeline.doctor.artifact import Artifact

# Launchers that enter virtual environments made here, of Pythons found here.
LOCAL = ("uv", "tox")


@dataclass(frozen=True)
class Place:
    """`launcher` is the one that builds use unless told otherwise. `directory` is the artifact asked about, if one is."""

    root: Path
    store: Store
    launcher: str
    directory: Path | None = None

    @cached_property
    def artifact(self) -> Artifact:
        """What `directory` holds, read once for all checks."""
        from pipeline.doctor.artifact import Artifact  # pydantic, which a bare Python has not

        assert self.directory is not None
        return Artifact(self.directory, self.store.find)

    @property
    def is_clone(self) -> bool:
        """Whether it has the scripts of a clone: the copy in an image or in a package of Nix is run as it was built."""
        return (self.root / "ci").is_dir()

    def environments(self) -> dict[str, Environment]:
        """Raises StageFailed where the clone defines none."""
        return environments(self.root)

    def definition(self, env: Environment) -> dict[str, Any]:
        """Raises StageFailed where it is no TOML."""
        try:
            return env.definition
        except ValueError as wrong:
            name = f"envs/{env.name}/pyproject.toml"
            raise StageFailed(f"`{name}` cannot be read: {wrong}", remedy=f"git checkout -- {name}") from wrong

    @property
    def needed(self) -> Callable[..., Finding]:
        """How bad it is when what virtual environments need is missing: an error, unless builds here enter environments in another way."""
        return error if self.launcher in LOCAL else optional

    def pythons(self) -> dict[str, str]:
        """`base_python` of tox.ini by environment: `python3.11`. Raises OSError."""
        text = (self.root / "tox.ini").read_text(encoding="utf-8")
        found = {name: re.search(rf"^\[testenv:{{{name},[^\[]*?^base_python *= *(\S+)", text, re.MULTILINE) for name in self.environments()}
        return {name: match[1] for name, match in found.items() if match}

    def surroundings(self) -> dict[str, str]:
        """The variables with which ci/env starts its commands: its tools first, pyenv's own folders last on PATH, no other environment active."""
        pyenv = Path(os.environ.get("PYENV_ROOT") or Path(os.path.expanduser("~")) / ".pyenv")  # noqa: PTH111 - never raises without a home
        behind = [str(path) for path in sorted(pyenv.glob("versions/3.1[0-9].*/bin"))]
        path = [str(self.root / ".venv" / "bin"), str(self.root / ".uv" / "bin"), *os.get_exec_path(), *behind]
        kept = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}
        return kept | {"PATH": os.pathsep.join(path), "UV_PYTHON_DOWNLOADS": "never"}


def free_bytes(folder: Path) -> int:
    """What this user may still write on the file system of `folder`. Raises OSError."""
    told = os.statvfs(folder)
    return told.f_bavail * told.f_frsize
