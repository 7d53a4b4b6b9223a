"""A copy of the project that a real nix builds, with a store of its own and a stand-in for nixpkgs (tests/fixtures/nixpkgs).

Nothing needs root, a daemon or /nix, and nothing is left behind. Derivations use this machine's Python, uv and shell, shown to them in Nix's sandbox:
there is no network in it, no home and no working tree (where the kernel forbids sandboxes, Nix goes on without). The wheels come from the package
index that pip is set up with, once, and Nix holds each of them against the hash in the project's list.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fakes.shell import Said, run
from fakes.small_projects import copy_tree

from interlock.environments import ROOT, environments
from pipeline.launchers.nix import system_name

STAND_IN = ROOT / "tests" / "fixtures" / "nixpkgs"
PARTS = ("interlock", "pipeline", "runtime", "eval", "envs", "nix", "flake.nix", "default.nix")
SETTINGS = """
experimental-features = nix-command flakes
sandbox = {sandbox}
sandbox-fallback = true
sandbox-paths = {paths}
build-users-group =
substituters =
flake-registry =
max-jobs = 2
"""
HOST_PATH = "/usr/local/bin:/usr/bin:/bin"


def nix() -> str:
    """The path of nix. Where there is none the test is skipped, and in CI it fails."""
    found = subprocess.run([ROOT / "ci" / "nix"], capture_output=True, text=True, check=False)
    if found.returncode and not os.environ.get("CI"):
        pytest.skip("there is no nix here, and ci/nix cannot install it")
    assert found.returncode == 0, found.stderr
    return found.stdout.splitlines()[-1]


@dataclass(frozen=True)
class NixProject:
    """The copy in `base / "project"`, and beside it all that nix writes."""

    base: Path

    @property
    def root(self) -> Path:
        return self.base / "project"

    @property
    def store(self) -> Path:
        return self.base / "nix" / "store"

    @property
    def environ(self) -> dict[str, str]:
        """What makes nix, and a launcher that starts it, use this store alone."""
        folders = {"NIX_STORE_DIR": "store", "NIX_STATE_DIR": "var", "NIX_LOG_DIR": "log", "XDG_CACHE_HOME": "cache", "XDG_CONFIG_HOME": "config"}
        own = {name: str(self.base / "nix" / folder) for name, folder in folders.items()}
        path = f"{Path(nix()).parent}:{HOST_PATH}"
        return own | {
            "NIX_CONFIG": self._settings,
            "NIX_REMOTE": "",
            "INTERLOCK_HOME": str(self.base / "home"),
            "PATH": path,
            "TMPDIR": str(self.base / "tmp"),  # shells leave folders there
        }

    @property
    def _settings(self) -> str:
        host = json.loads((self.base / "nixpkgs" / "host.json").read_bytes())
        interpreters = [str(Path(one["interpreter"]).parent.parent) for one in host.values() if isinstance(one, dict)]
        shown = ["/bin", "/usr", "/lib", "/lib64", *interpreters, str(Path(host["uv"]).parent), host["wheels"]]
        # macOS has another sandbox, without paths to show.
        return SETTINGS.format(sandbox=str(sys.platform == "linux").lower(), paths=" ".join(path for path in shown if Path(path).exists()))

    def nix(self, *words: str) -> Said:
        """`nix WORDS` in the copy; `.#NAME` names an output of its flake."""
        named = [word.replace(".#", f"path:{self.root}#", 1) if word.startswith(".#") else word for word in words]
        return run([nix(), *named], cwd=self.root, environ=self.environ)

    def flake(self, verb: str, *words: str) -> Said:
        """`nix flake VERB WORDS` about the copy."""
        return self.nix("flake", verb, f"path:{self.root}", *words)

    def lock_stand_in(self) -> None:
        """Make the stand-in the copy's nixpkgs, under a lock as for the real one."""
        file = self.root / "flake.nix"
        text, count = re.subn(r'nixpkgs\.url = "[^"]+"', f'nixpkgs.url = "path:{self.base / "nixpkgs"}"', file.read_text())
        assert count == 1
        file.write_text(text)
        locked = self.flake("lock")
        assert locked.code == 0, locked.err

    def fetch(self, *names: str) -> None:
        """Bring the wheels of environments here, at the hashes of their lists: as many as there are, in one go for each environment."""
        for name in names:
            wheels = self.wheels(name)["wheels"].values()
            parts = [wheel["file"].removesuffix(".whl").split("-") for wheel in wheels]
            asked = self.base / f"{name}.txt"
            asked.write_text("".join(f"{part[0]}==={part[1]} --hash=sha256:{wheel['sha256']}\n" for part, wheel in zip(parts, wheels, strict=True)))
            abis = {abi for part in parts for abi in part[3].split(".")}
            platforms = {platform for part in parts for platform in part[4].split(".")}
            fitting = [*(f"--abi={abi}" for abi in sorted(abis)), *(f"--platform={platform}" for platform in sorted(platforms))]
            version = f"--python-version={self.wheels(name)['python']}"
            command = [ROOT / ".uv" / "bin" / "python", "-m", "pip", "download", "-qq", "--no-deps", "--only-binary=:all:", "--require-hashes"]
            subprocess.run([*command, "--implementation=cp", version, *fitting, "--dest", self.base / "wheels", "--requirement", asked], check=True)

    def wheels(self, name: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.root / "envs" / name / f"wheels-{system_name()}.json").read_bytes())
        return document

    def shrink(self, name: str, keep: set[str]) -> None:
        """Leave only some packages in an environment's definition, lock and list: all is as for the whole one, but takes seconds."""
        folder = self.root / "envs" / name
        definition = folder / "pyproject.toml"
        needed = re.findall(r'^    "([A-Za-z0-9-]+)', definition.read_text(), re.MULTILINE)
        for dependency in set(needed) - keep:
            definition.write_text(re.sub(rf'^    "{dependency}\b.*\n', "", definition.read_text(), flags=re.MULTILINE))
        definition.write_text(re.sub(r"^systems = .*", f'systems = ["{system_name()}"]', definition.read_text(), flags=re.MULTILINE))
        entries = re.split(r"^(?=\S)", (folder / "requirements.lock").read_text(), flags=re.MULTILINE)
        text = "".join(entry for entry in entries if entry.startswith("--") or entry.partition("==")[0] in keep)
        (folder / "requirements.lock").write_text(text)
        document = self.wheels(name)
        document["wheels"] = {package: wheel for package, wheel in document["wheels"].items() if package in keep}
        self._list(name, document)

    def add(self, name: str, wheel: Path) -> None:
        """Put one more wheel into an environment's lock and list, as `ci/lock` does for a dependency of its definition."""
        package, version = wheel.name.split("-")[:2]
        sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
        with (self.root / "envs" / name / "requirements.lock").open("a") as lock:
            lock.write(f"{package}=={version} \\\n    --hash=sha256:{sha256}\n")
        document = self.wheels(name)
        document["wheels"][package] = {"file": wheel.name, "sha256": sha256}
        self._list(name, document)

    def _list(self, name: str, document: dict[str, Any]) -> None:
        folder = self.root / "envs" / name
        document["lock"] = hashlib.sha256((folder / "requirements.lock").read_bytes()).hexdigest()
        (folder / f"wheels-{system_name()}.json").write_text(json.dumps(document))

    def remove(self) -> None:
        """Nix makes what is in its store read-only, folders too."""
        for folder, _, _ in os.walk(self.base):
            with contextlib.suppress(OSError):
                Path(folder).chmod(stat.S_IRWXU)
        shutil.rmtree(self.base)


def nix_project(base: Path) -> NixProject:
    """A copy of the working tree in `base`, not yet locked and nothing fetched."""
    made = NixProject(base)
    copy_tree(made.root, PARTS)
    shutil.copytree(STAND_IN, base / "nixpkgs")
    for folder in ("wheels", "tmp"):
        (base / folder).mkdir()
    (base / "nixpkgs" / "host.json").write_text(json.dumps(_host(base)))
    return made


def _host(base: Path) -> dict[str, Any]:
    """What the stand-in's packages are made of: the interpreters behind the project's own environments, and its uv."""
    found: dict[str, Any] = {"uv": str(ROOT / ".venv" / "bin" / "uv"), "path": HOST_PATH, "wheels": str(base / "wheels")}
    for env in environments().values():
        assert env.python_version is not None
        short = "".join(env.python_version.split(".")[:2])
        found[f"python{short}"] = {"version": env.python_version, "interpreter": str(env.python.resolve())}
    return found
