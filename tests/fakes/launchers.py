"""One bench for each launcher: a small copy of the project in which it starts stages for real, and what is particular to it.

Here: making the benches. Not here: what every launcher must do (environments/test_launcher_conformance.py).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fakes.containers import container_project
from fakes.nix import nix_project
from fakes.shell import Said, run
from fakes.small_projects import driver, make_driver, small_project
from fakes.sshd import sshd
from fakes.stub_builds import CHAIN, SMALL, stub_wheel

from interlock.environments import ROOT, Environment, environments
from pipeline.driver import records


@dataclass(frozen=True)
class Bench:
    """A project in `base / "project"` and its driver; environment `train` is not made yet.

    made: how often a command, or all so far, made it; missing: variables under which the launcher's tool is not there; refusal: words of what is said
    then; image: what a contract has as `image`, by the project's environment; left: what is still there of stages that have ended.
    """

    launcher: str
    base: Path
    made: Callable[[Said], int]
    missing: Callable[[], Mapping[str, str]]
    refusal: tuple[str, ...]
    environ: Mapping[str, str] = field(default_factory=dict)
    image: Callable[[Environment], str | None] = lambda env: None
    left: Callable[[], list[str]] = list

    @property
    def env(self) -> Environment:
        return environments(self.base / "project")["train"]

    def folder(self, name: str, recipe: str) -> Path:
        """A folder in which that recipe is built."""
        made = self.base / name
        made.mkdir()
        (made / "recipe.toml").write_text(recipe)
        return made

    def argv(self, *words: str) -> list[str]:
        return driver(self.base, "build", "recipe.toml", "--launcher", self.launcher, "--json", *words)

    def around(self, folder: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Variables of a build in `folder`: notes of environments are shared, the store is the folder's own."""
        own = {"INTERLOCK_HOME": str(self.base / "home"), "INTERLOCK_STORE": str(folder / "store")}
        return {**os.environ, **self.environ, **own, **(more or {})}

    def build(self, folder: Path, *words: str, more: Mapping[str, str] | None = None) -> Said:
        return run(self.argv(*words), cwd=folder, environ=self.around(folder, more))


def chain() -> str:
    return CHAIN.format(text="word", rows=3, sleep_s=0.0)


def report(said: Said) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(said.out)
    return document


def uv(base: Path) -> Iterator[Bench]:
    root = _tooled(base)
    missing = _nothing_on_path(base)
    yield Bench(
        "uv",
        base,
        made=lambda said: said.err.count("sync: environment `train`"),
        missing=lambda: _spoilt(root / "envs" / "train" / ".venv", missing),
        refusal=("environment `train` could not be made", "ci/sync train"),
        environ=_index(base),
    )


def tox(base: Path) -> Iterator[Bench]:
    root = _tooled(base)

    def without_interpreter() -> dict[str, str]:
        file = root / "tox.ini"
        file.write_text(file.read_text().replace("base_python = python3.13", "base_python = python3.99"))
        return _spoilt(root / ".tox" / "train", {"TOX_SKIP_MISSING_INTERPRETERS": "true"})

    yield Bench(
        "tox",
        base,
        made=lambda said: said.err.count("train: OK"),
        missing=without_interpreter,
        refusal=("environment `train` could not be made by tox", "base_python of `train` in tox.ini", "python3.99", "ci/env tox run -e train"),
        environ=_index(base),
    )


def nix(base: Path) -> Iterator[Bench]:
    project = nix_project(base)
    project.shrink("train", SMALL)
    project.fetch("train")
    project.add("train", stub_wheel(base / "wheels"))
    project.lock_stand_in()
    _only_train(project.root)
    make_driver(base)
    link = base / "home" / "nix" / "train"

    def without_nix() -> dict[str, str]:
        link.unlink()
        return _nothing_on_path(base)

    yield Bench(
        "nix",
        base,
        made=lambda said: len(list(project.store.glob("*-interlock-train"))),
        missing=without_nix,
        refusal=("there is no `nix` on PATH", "nixos.org", "--launcher uv"),
        environ={name: value for name, value in project.environ.items() if name != "INTERLOCK_HOME"},
        image=lambda env: str(link.resolve()),
    )
    project.remove()


def container(base: Path) -> Iterator[Bench]:
    project = container_project(base)
    _only_train(project.root)
    note = project.root / ".interlock" / "images" / "train.json"

    def without_engine() -> dict[str, str]:
        note.unlink()
        return {"INTERLOCK_CONTAINER_ENGINE": "/nowhere/podman"}

    yield Bench(
        "container",
        base,
        made=lambda said: sum(call.startswith("build --tag interlock-train") for call in project.calls),
        missing=without_engine,
        refusal=("there is no container engine", "/nowhere/podman", "--launcher uv"),
        environ=project.environ,
        image=lambda env: str(records.load(note)["image"]),
        left=project.containers,
    )
    project.remove()


def current(base: Path) -> Iterator[Bench]:
    """The driver's own interpreter: nothing is made, and no tool can be missing."""
    _only_train(small_project(base))
    yield Bench("current", base, made=lambda said: 1, missing=dict, refusal=())


def ssh(base: Path) -> Iterator[Bench]:
    """Another clone of the same small project, in a folder that the driver does not look into, behind a real sshd."""
    root = _tooled(base)
    there = base / "there"
    shutil.copytree(root, there / "clone", symlinks=True)
    subprocess.run([there / "clone" / "ci" / "sync", "train"], check=True, capture_output=True, env={**os.environ, **_index(base)})
    with sshd(base / "sshd") as reached:
        note = root / ".interlock" / "ssh" / "train.json"

        def without_ssh() -> dict[str, str]:
            note.unlink()
            return {"INTERLOCK_SSH": "/nowhere/ssh"}

        yield Bench(
            "ssh",
            base,
            made=lambda said: said.err.count("ssh: ask "),
            missing=without_ssh,
            refusal=("there is no ssh", "/nowhere/ssh", "--launcher uv"),
            environ={**reached, "INTERLOCK_SSH_ROOT": str(there / "clone")},
            left=lambda: [path.name for path in (there / "clone" / ".interlock" / "ssh" / "runs").glob("*")],
        )


BENCHES = {"uv": uv, "tox": tox, "nix": nix, "container": container, "current": current, "ssh": ssh}


def _only_train(root: Path) -> None:
    """Leave one environment: a launcher that is asked for an unknown stage would make both."""
    shutil.rmtree(root / "envs" / "export")
    if (flake := root / "flake.nix").exists():
        flake.write_text(flake.read_text().replace('export = "python311"; ', ""))


def _tooled(base: Path) -> Path:
    """A small project in which uv and tox are in place: those of the real one."""
    root = small_project(base)
    _only_train(root)
    for tools in (".uv", ".venv"):
        (root / tools).symlink_to(ROOT / tools)
    return root


def _index(base: Path) -> dict[str, str]:
    """Where uv finds the stub stages; all else comes from where it comes for the real environments."""
    return {"UV_FIND_LINKS": str(base / "wheels")}


def _nothing_on_path(base: Path) -> dict[str, str]:
    (base / "nothing").mkdir(exist_ok=True)
    return {"PATH": str(base / "nothing")}


def _spoilt(venv: Path, variables: dict[str, str]) -> dict[str, str]:
    (venv / ".synced").unlink()
    return variables
