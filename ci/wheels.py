"""Wheel lists for Nix: from each `requirements.lock`, one `wheels-<system>.json` per system that its environment is for.

Here: which file of each locked package fits a system and the interpreter that flake.nix pairs with the environment. Not here: resolving (ci/lock),
fetching (nix/wheelhouse.nix). A list adds nothing to its lock: every hash in it stands there.

  ci/env python ci/wheels.py write ENV...   asks the package index, through uv, for the names of the locked files; stores no address
  ci/env python ci/wheels.py check          needs no network: the lists cover the locks exactly, and every file fits; exits 1 and names what does not
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomllib
from packaging.markers import Marker
from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).resolve().parent.parent
NEWEST_GLIBC = 35  # 2.35: Ubuntu 22.04 and what came after it
MACOS = (14, 0)
# What a manylinux tag was called before it named its glibc (PEP 600).
LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}

_ENTRY = re.compile(
    r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)(?: ; (?P<marker>[^\\]+?))?(?P<hashes>(?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", re.MULTILINE
)


@dataclass(frozen=True)
class Locked:
    """One entry of a lock: a package in one version, where its marker applies, and the sha256 of each of its files."""

    name: str
    version: str
    marker: Marker | None
    hashes: frozenset[str]


@dataclass(frozen=True)
class Target:
    """One environment on one system, as Nix names it (`x86_64-linux`), under the Python that flake.nix gives it (`3.13`)."""

    env: str
    system: str
    python: str

    @property
    def lock(self) -> Path:
        return ROOT / "envs" / self.env / "requirements.lock"

    @property
    def list(self) -> Path:
        return self.lock.with_name(f"wheels-{self.system}.json")

    @property
    def machine(self) -> str:
        return "arm64" if self.is_darwin else self.system.partition("-")[0]

    @property
    def is_darwin(self) -> bool:
        return self.system.endswith("-darwin")

    @property
    def lock_digest(self) -> str:
        return hashlib.sha256(self.lock.read_bytes()).hexdigest()

    def entries(self) -> dict[str, Locked]:
        """What of the lock is installed here, by name."""
        return {entry.name: entry for entry in read_lock(self.lock.read_text(encoding="utf-8")) if self._applies(entry)}

    def _applies(self, entry: Locked) -> bool:
        # PEP 508: the values that its markers are about.
        values = {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Darwin" if self.is_darwin else "Linux",
            "platform_version": "",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "darwin" if self.is_darwin else "linux",
            "extra": "",
        }
        return entry.marker is None or entry.marker.evaluate(values)

    def tags(self) -> list[Tag]:
        """What the interpreter accepts here, best first (PEP 425)."""
        version = tuple(int(part) for part in self.python.split("."))
        if self.is_darwin:
            platforms = list(mac_platforms(MACOS, self.machine))
        else:
            names = (name for minor in range(NEWEST_GLIBC, 4, -1) for name in (f"manylinux_2_{minor}", LEGACY.get(minor)) if name)
            platforms = [f"{name}_{self.machine}" for name in [*names, "linux"]]
        return [*cpython_tags(version, platforms=platforms), *compatible_tags(version, f"cp{version[0]}{version[1]}", platforms)]


def targets(env: str) -> list[Target]:
    """Every system that the environment's definition names."""
    chosen = re.search(rf"\b{env} = \"python(\d)(\d+)\"", (ROOT / "flake.nix").read_text(encoding="utf-8"))
    if chosen is None:
        raise SystemExit(f"wheels: flake.nix gives `{env}` no interpreter")
    definition = tomllib.loads((ROOT / "envs" / env / "pyproject.toml").read_text(encoding="utf-8"))
    return [Target(env, system, ".".join(chosen.groups())) for system in definition["tool"]["interlock"]["systems"]]


def read_lock(text: str) -> Iterator[Locked]:
    for entry in _ENTRY.finditer(text):
        marker = Marker(entry["marker"]) if entry["marker"] else None
        yield Locked(canonicalize_name(entry["name"]), entry["version"], marker, frozenset(re.findall(r"sha256:(\w+)", entry["hashes"])))


def files_behind(lock: Path, python: str) -> dict[tuple[str, str], dict[str, str]]:
    """(name, version) → {wheel file name: sha256}, as the index that uv is set up with has them."""
    command = ["uv", "pip", "compile", "--quiet", "--universal", "--no-deps", "--no-header", "--only-binary", ":all:"]
    command += ["--python-version", python, "--format", "pylock.toml", lock.name]
    listing = subprocess.run(command, cwd=lock.parent, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = {}
    for package in tomllib.loads(listing)["packages"]:
        wheels = {wheel.get("name") or wheel["url"].rpartition("/")[2]: wheel["hashes"]["sha256"] for wheel in package.get("wheels", ())}
        found[canonicalize_name(package["name"]), package["version"]] = wheels
    return found


def choose(entry: Locked, files: dict[str, str], accepted: list[Tag]) -> dict[str, str]:
    """The locked file that fits best; none with a build tag, for which nixpkgs' fetchPypi has no place."""
    rank = {tag: place for place, tag in enumerate(accepted)}
    fitting = []
    for file, sha256 in files.items():
        _, _, build, tags = parse_wheel_filename(file)
        places = [rank[tag] for tag in tags if tag in rank]
        if places and not build and sha256 in entry.hashes:
            fitting.append((min(places), file, sha256))
    if not fitting:
        raise SystemExit(f"wheels: {entry.name}=={entry.version}: no file of the lock without a build tag fits {accepted[0]}")
    _, file, sha256 = min(fitting)
    return {"file": file, "sha256": sha256}


def write(env: str) -> None:
    """Make the lists of an environment anew."""
    for target in targets(env):
        files, accepted = files_behind(target.lock, target.python), target.tags()
        wheels = {name: choose(entry, files.get((name, entry.version), {}), accepted) for name, entry in target.entries().items()}
        document = {"python": target.python, "lock": target.lock_digest, "wheels": wheels}
        target.list.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def check(target: Target) -> Iterator[str]:
    """What is wrong with one list."""
    try:
        document: dict[str, Any] = json.loads(target.list.read_bytes())
    except OSError:
        yield "is not there"
        return
    if document["python"] != target.python:
        yield f"is for Python {document['python']}, and flake.nix gives the environment {target.python}"
        return
    if document["lock"] != target.lock_digest:
        yield "was made from another lock"
    wanted = target.entries()
    yield from (f"has `{name}`, or the lock has it, and the other has not" for name in sorted(wanted.keys() ^ document["wheels"].keys()))
    accepted = set(target.tags())
    for name in sorted(wanted.keys() & document["wheels"].keys()):
        file, sha256 = document["wheels"][name]["file"], document["wheels"][name]["sha256"]
        own, version, build, tags = parse_wheel_filename(file)
        if (own, str(version), build) != (name, wanted[name].version, ()) or sha256 not in wanted[name].hashes or not tags & accepted:
            yield f"names {file}, which is not the locked one or does not fit the system"


def main(argv: list[str]) -> int:
    """Returns the exit code."""
    names = sorted(path.parent.name for path in ROOT.glob("envs/*/pyproject.toml"))
    if argv[:1] == ["write"] and set(argv[1:]) <= set(names):
        for env in argv[1:] or names:
            write(env)
        return 0
    if argv == ["check"]:
        wrong = [f"{target.list.relative_to(ROOT)} {what}" for env in names for target in targets(env) for what in check(target)]
        print("\n".join([*wrong, "hint: run ci/lock"] if wrong else [f"wheel lists of {', '.join(names)} cover their locks"]))
        return 1 if wrong else 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
