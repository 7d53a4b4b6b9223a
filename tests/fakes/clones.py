"""Another clone of the project: a copy of its files as they are, at another path, with environments of its own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from fakes.shell import Said, run

from interlock.environments import ROOT

LEFT_OUT = ("tests", "docs", "benchmarks", "models")


def clone(folder: Path, *, environments: bool = True) -> Path:
    """Copy what git knows or would add, without what builds leave; with `environments`, install both from their locks."""
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if name.split("/")[0] not in LEFT_OUT and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    if environments:
        # The tools that make environments are the same for every clone.
        for tools in (".uv", ".venv"):
            (folder / tools).symlink_to(ROOT / tools)
        made = run([folder / "ci" / "sync", "train", "export"], cwd=folder)
        assert made.code == 0, made.err
    return folder


def interlock_in(folder: Path, *words: object, cwd: Path | None = None, environ: dict[str, str] | None = None) -> Said:
    """`interlock WORDS` of that clone."""
    python = folder / "envs" / "train" / ".venv" / "bin" / "python"
    return run([str(python), "-m", "pipeline.cli", *map(str, words)], cwd=cwd or folder, environ=environ)
