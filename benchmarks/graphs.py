"""One graph of files for several build tools: each step's outputs are the artifact that interlock made, and it depends on those before it.

Here: what each tool reads. Not here: measuring (noop.py). A step's command copies the files from interlock's store: equal work for every tool.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.driver.store import Store


@dataclass(frozen=True)
class Step:
    """`after` are the names of the steps it takes; `files` are relative to its folder `out/<name>`."""

    name: str
    source: Path
    files: tuple[str, ...]
    after: tuple[str, ...]
    bytes: int

    @property
    def outputs(self) -> list[str]:
        return [f"out/{self.name}/{file}" for file in self.files]

    @property
    def command(self) -> str:
        out = f"out/{self.name}"
        return f"mkdir -p {out} && cp -r {shlex.quote(str(self.source))}/. {out} && chmod -R u+w {out} && touch {out}/*"


TAKES = {"import": (), "export": ("import",), "convert": ("export", "import"), "compress": ("convert", "import"), "deploy": ("export", "compress")}


def steps_of(built: list[dict[str, Any]]) -> list[Step]:
    """The steps of a build of interlock with the files that they made."""
    store, names, steps = Store.here(), [step["step"] for step in built], []
    for step in built:
        folder = store.object_path(step["digest"])
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        after = tuple(name if name in names else "convert" for name in TAKES[step["step"]])
        size = sum(path.stat().st_size for path in files)
        steps.append(Step(step["step"], folder, tuple(path.relative_to(folder).as_posix() for path in files), after, size))
    return steps


def _inputs(step: Step, steps: list[Step]) -> list[str]:
    return [output for other in steps if other.name in step.after for output in other.outputs]


def make(folder: Path, steps: list[Step], tools: Path) -> list[str]:
    """GNU make: a stamp for each step, which depends on the stamps before it and on their files."""
    lines = [f"all: out/{steps[-1].name}.stamp", ""]
    for step in steps:
        stamps = [f"out/{name}.stamp" for name in step.after]
        lines += [f"out/{step.name}.stamp: {' '.join([*stamps, *_inputs(step, steps)])}", f"\t{step.command} && touch $@", ""]
        lines += [f"{' '.join(step.outputs)}: out/{step.name}.stamp ;", ""]
    (folder / "Makefile").write_text("\n".join(lines))
    return ["make", "-s"]


def ninja(folder: Path, steps: list[Step], tools: Path) -> list[str]:
    lines = []
    for step in steps:
        lines += [f"rule {step.name}", f"  command = {step.command.replace('$', '$$')}", "  restat = 1"]
        lines += [f"build {' '.join(step.outputs)}: {step.name} {' '.join(_inputs(step, steps))}", ""]
    (folder / "build.ninja").write_text("\n".join(lines))
    return [str(tools / "ninja"), "--quiet"]


def doit(folder: Path, steps: list[Step], tools: Path) -> list[str]:
    tasks = [{"name": s.name, "actions": [s.command], "file_dep": _inputs(s, steps), "targets": s.outputs} for s in steps]
    (folder / "dodo.py").write_text(f"def task_build():\n    yield from {tasks!r}\n")
    return [str(tools / "doit")]


def dvc(folder: Path, steps: list[Step], tools: Path) -> list[str]:
    lines = ["stages:"]
    for step in steps:
        lines += [f"  {step.name}:", f"    cmd: {step.command}"]
        lines += ["    deps:", *(f"    - out/{name}" for name in step.after)] if step.after else []
        lines += ["    outs:", f"    - out/{step.name}"]
    (folder / "dvc.yaml").write_text("\n".join(lines) + "\n")
    quiet = {"DVC_NO_ANALYTICS": "true", "PATH": f"{tools}:/usr/bin:/bin"}
    subprocess.run([tools / "dvc", "init", "--no-scm", "-q"], cwd=folder, check=True, env=quiet)
    # Copies of gigabytes into a cache are not what is measured.
    subprocess.run([tools / "dvc", "config", "cache.type", "reflink,hardlink,copy"], cwd=folder, check=True, env=quiet)
    return ["env", "DVC_NO_ANALYTICS=true", str(tools / "dvc"), "repro", "-q"]


def snakemake(folder: Path, steps: list[Step], tools: Path) -> list[str]:
    lines = ["rule all:", f"    input: {steps[-1].outputs!r}", ""]
    for step in steps:
        lines += [f"rule {step.name.replace('import', 'import_')}:"]
        lines += [f"    input: {_inputs(step, steps)!r}"] if step.after else []
        lines += [f"    output: {step.outputs!r}", f"    shell: {step.command!r}", ""]
    (folder / "Snakefile").write_text("\n".join(lines))
    return [str(tools / "snakemake"), "--cores", "1", "--quiet", "all"]


GRAPHS: dict[str, Callable[[Path, list[Step], Path], list[str]]] = {"make": make, "ninja": ninja, "doit": doit, "dvc": dvc, "snakemake": snakemake}
