"""A clone of the project whose two environments are real and small: made by `ci/sync` from cuts of the real locks, without a tensor library, with a
package cache of its own. What happens before a stage's own work happens in it as everywhere, and nothing that is damaged in it is anybody else's.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from fakes.clones import FILES
from fakes.shell import Said

from interlock.environments import ROOT, Environment, environments

# What the command line, the driver and the installation of the project itself need. `idna` is there to be damaged.
DIRECT = ("hatchling", "idna", "msgspec", "packaging", "pydantic", "rich")
LOCKED = (*DIRECT, "annotated-types", "markdown-it-py", "mdurl", "pathspec", "pluggy", "pydantic-core", "pygments", "tomli", "tomlkit",
          "trove-classifiers", "typing-extensions", "typing-inspection")  # fmt: skip


@dataclass(frozen=True)
class LeanClone:
    """The clone in `root`. Commands run in `root` too."""

    root: Path

    def env(self, name: str) -> Environment:
        return environments(self.root)[name]

    def installed(self, name: str, file: str) -> Path:
        """A file of an environment's site-packages."""
        (found,) = (self.root / "envs" / name / ".venv").glob(f"lib/python3*/site-packages/{file}")
        return found

    def interlock(self, *words: object, **environ: str) -> Said:
        """One command line of the clone, by its own train environment."""
        return self.run(self.env("train").python, "-I", "-m", "pipeline.cli", *words, **environ)

    def run(self, *words: object, **environ: str) -> Said:
        left_out = ("INTERLOCK_", "VIRTUAL_ENV", "PYTHON", "UV_LINK")
        around = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        around |= {"UV_CACHE_DIR": str(self.root / "cache"), "UV_LINK_MODE": "hardlink", **environ}
        ended = subprocess.run([*map(str, words)], cwd=self.root, env=around, capture_output=True, text=True, check=False)
        return Said(ended.returncode, ended.stdout, ended.stderr)


def lean_clone(root: Path) -> LeanClone:
    """Make it, environments included: some 3 MB from the package index."""
    leave = shutil.ignore_patterns(".venv", "__pycache__")
    for room in ("interlock", "pipeline", "runtime", "eval", "ci"):
        shutil.copytree(ROOT / room, root / room, ignore=leave)
    for file in (*FILES, "flake.nix"):
        shutil.copy2(ROOT / file, root / file)
    for tools in (".uv", ".venv"):
        (root / tools).symlink_to(ROOT / tools)
    for env in environments().values():
        folder = root / "envs" / env.name
        folder.mkdir(parents=True)
        definition = (env.folder / "pyproject.toml").read_text()
        wanted = [line for line in env.definition["project"]["dependencies"] if re.split(r"\W", line)[0] in DIRECT] + ["idna"]
        definition = re.sub(r"^dependencies = \[.*?^\]", f"dependencies = {json.dumps(wanted)}", definition, flags=re.M | re.S)
        definition = re.sub(r"^dev = \[.*?^\]", "dev = []", definition, flags=re.M | re.S)
        (folder / "pyproject.toml").write_text(definition)
        entries = re.split(r"\n(?=[A-Za-z0-9])", env.lock_file.read_text().strip())
        kept = [entry for entry in entries if entry.partition("==")[0] in LOCKED]
        (folder / "requirements.lock").write_text("\n".join(["--require-hashes", *kept]) + "\n")
    made = LeanClone(root)
    said = made.run("ci/sync", *environments())
    assert said.code == 0, said
    return made
