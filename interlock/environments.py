"""Environments: what `envs/` says, what is running, and whether the one satisfies the other.

Here: reading definitions and locks, the record that contracts carry, admission. Not here: starting an interpreter (pipeline/launchers), making an
environment (ci/sync). A version of Python is stated in `envs/<name>/pyproject.toml` alone; this module compares, it knows no number.
"""

from __future__ import annotations

import hashlib
import importlib.util
import platform
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interlock.errors import EnvironmentRefused, StageFailed

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from interlock.contracts.base import EnvironmentRecord

ROOT = Path(__file__).resolve().parent.parent

_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)\s*(?:;\s*([^\\]+))?")


def parse_toml(text: str) -> dict[str, Any]:
    """Raises ValueError."""
    # tomllib came with 3.11; its backport is locked where the environment still allows an older one.
    toml = importlib.import_module("tomllib" if importlib.util.find_spec("tomllib") else "tomli")
    document: dict[str, Any] = toml.loads(text)
    return document


def read_toml(path: Path) -> dict[str, Any]:
    """Raises OSError, and ValueError for what is not TOML in UTF-8."""
    return parse_toml(path.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Environment:
    """One folder of `envs/`: its definition and its lock."""

    name: str
    folder: Path

    @cached_property
    def definition(self) -> dict[str, Any]:
        return read_toml(self.folder / "pyproject.toml")

    @cached_property
    def requires_python(self) -> str:
        """Read without a TOML parser: the interpreter that must be told about it may have none."""
        match = re.search(r'^requires-python = "([^"]+)"', (self.folder / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
        return match[1] if match else str(self.definition["project"]["requires-python"])

    @property
    def lock_file(self) -> Path:
        return self.folder / "requirements.lock"

    @cached_property
    def lock_digest(self) -> str:
        return hashlib.sha256(self.lock_file.read_bytes()).hexdigest()

    @property
    def python(self) -> Path:
        """The interpreter of the synced environment."""
        return self.folder / ".venv" / "bin" / "python"

    @cached_property
    def python_version(self) -> str | None:
        """The version of the synced environment's interpreter; None before it is made."""
        return python_version_in(self.folder / ".venv")

    @property
    def synced(self) -> bool:
        """Whether `envs/<name>/.venv` was made from the lock as it is now."""
        return self.made(self.folder / ".venv")

    def made(self, venv: Path) -> bool:
        """Whether the virtual environment in `venv` was made from the lock as it is now: ci/install leaves a copy of what it has installed."""
        try:
            return (venv / ".synced").read_bytes() == self.lock_file.read_bytes()
        except OSError:
            return False

    @property
    def direct(self) -> list[str]:
        """Names of the direct dependencies that apply to the running interpreter."""
        return sorted(need.name for need in self.needs())

    def needs(self, python: str | None = None) -> list[Requirement]:
        """The direct dependencies that apply to an interpreter of this version, the running one by default."""
        from packaging.requirements import Requirement

        there = _markers(python)
        wanted = [Requirement(line) for line in self.definition["project"]["dependencies"]]
        return [need for need in wanted if need.marker is None or need.marker.evaluate(there)]

    def pins(self, python: str | None = None, lock: Path | None = None) -> dict[str, str]:
        """Locked versions that apply to an interpreter of this machine, by normalised name.

        `python` is its version, of the running one by default; `lock` is a lock of the folder, `requirements.lock` by default.
        """
        from packaging.markers import Marker
        from packaging.utils import canonicalize_name

        there = _markers(python)
        found = {}
        for line in (lock or self.lock_file).read_text(encoding="utf-8").splitlines():
            match = _PIN.match(line)
            if match and (not match[3] or Marker(match[3].strip()).evaluate(there)):
                found[str(canonicalize_name(match[1]))] = match[2]
        return found

    def locked(self) -> dict[str, str]:
        """Every version that the lock names for each package, for any interpreter and platform."""
        found: dict[str, set[str]] = {}
        for line in self.lock_file.read_text(encoding="utf-8").splitlines():
            if match := _PIN.match(line):
                found.setdefault(match[1].lower(), set()).add(match[2])
        return {name: " or ".join(sorted(versions)) for name, versions in sorted(found.items())}


def _markers(python: str | None) -> dict[str, str]:
    """What markers ask of an interpreter of this machine in another version; of the running one for None."""
    from packaging.markers import default_environment

    there = {name: str(value) for name, value in default_environment().items()}
    if python is not None:
        there["python_full_version"] = there["implementation_version"] = python
        there["python_version"] = ".".join(python.split(".")[:2])
    return there


def python_version_in(venv: Path) -> str | None:
    """The version of a virtual environment's interpreter, as the environment itself records it; None where there is none."""
    try:
        text = (venv / "pyvenv.cfg").read_text(encoding="utf-8")
    except OSError:
        return None
    match = re.search(r"^version(?:_info)? = (\S+)", text, re.MULTILINE)
    return match[1] if match else None


def environments(root: Path = ROOT) -> dict[str, Environment]:
    """Every environment that the project defines. Raises StageFailed where the project's folder is incomplete."""
    found = {path.parent.name: Environment(path.parent.name, path.parent) for path in sorted((root / "envs").glob("*/pyproject.toml"))}
    if not found:
        raise StageFailed(
            f"no environment is defined under `{root / 'envs'}`", remedy="run interlock from a clone of its repository (`make deploy-full`)"
        )
    return found


def environment(name: str) -> Environment:
    return environments()[name]


def platform_name() -> str:
    """`linux-x86_64`, `darwin-arm64`."""
    return f"{sys.platform}-{platform.machine()}"


@dataclass(frozen=True)
class Entered:
    """How this process came into its environment: the launcher, and the image's digest or the store path that the environment is, if it is one."""

    launcher: str = "current"
    image: str | None = None


DIRECTLY = Entered()


def record(env: Environment, entered: Entered = DIRECTLY) -> EnvironmentRecord:
    """The running interpreter as contracts carry it: measured versions of the direct dependencies, `absent` where one is not installed."""
    from interlock.contracts.base import EnvironmentRecord  # pydantic: a tenth of a second that `--help` does not need

    versions = {name: _installed(name) or "absent" for name in env.direct}
    return EnvironmentRecord(
        name=env.name,
        python=platform.python_version(),
        platform=platform_name(),
        lock_digest=env.lock_digest,
        packages=dict(sorted(versions.items())),
        launcher=entered.launcher,
        image=entered.image,
    )


def _installed(name: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def admit(env: Environment, verb: str, argv: Sequence[str] = (), remedy: str | None = None) -> None:
    """Let the running interpreter do `verb`, or refuse it before any work. Raises EnvironmentRefused.

    Refused: a Python outside `requires-python`, or a direct dependency whose installed version is not the locked one. Works in an interpreter
    that has no package at all. `remedy` is for what is no verb that a person could have called.
    """
    remedy = remedy or _ways(env, verb, argv)
    running = f"Python {platform.python_version()} ({sys.executable})"
    try:
        fits, wrong = _fits(env), _wrong_packages(env)
    except ModuleNotFoundError as missing:
        fits, wrong = False, []
        running += f" without the package `{missing.name}`"
    if not fits:
        raise EnvironmentRefused(
            f"`{verb}` belongs to environment `{env.name}`",
            required=f"Python {env.requires_python} (requires-python of envs/{env.name}/pyproject.toml)",
            running=running,
            remedy=remedy,
        )
    if wrong:
        raise EnvironmentRefused(
            f"the packages of environment `{env.name}` are not the locked ones",
            required=f"the versions of envs/{env.name}/requirements.lock",
            running=f"{running} with {', '.join(wrong)}",
            remedy=f"run `ci/sync {env.name}`, then {remedy}",
        )


def _fits(env: Environment) -> bool:
    from packaging.specifiers import SpecifierSet

    return bool(SpecifierSet(env.requires_python).contains(platform.python_version(), prereleases=True))


def _wrong_packages(env: Environment) -> list[str]:
    """Direct dependencies that are not installed in their locked version."""
    pins = env.pins()
    return [f"{name} {_installed(name) or 'absent'} instead of {pins.get(name, 'none')}" for name in env.direct if _installed(name) != pins.get(name)]


def _ways(env: Environment, verb: str, argv: Sequence[str]) -> str:
    words = " ".join([verb, *argv])
    tox = f"tox -e {verb if verb in ('export', 'convert') else env.name} -- {' '.join(argv if verb in ('export', 'convert') else [verb, *argv])}"
    return "\n".join(["run one of", f"  interlock {words}", f"  {tox}", f"  nix develop .#{env.name} -c interlock {words}"])
