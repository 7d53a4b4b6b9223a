"""The locks: whole, hashed, of one mind with each other and with the lists made from them.

Here: what a lock's text shows by itself, and ci/wheels.py asked. Not here: whether what is installed is what is locked (environments.py).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from interlock.environments import Environment
from pipeline.doctor.asking import ask
from pipeline.doctor.finding import Finding, error, info
from pipeline.doctor.place import Place
from pipeline.launchers import on_path

FIRST_LINE = "--require-hashes"
_ENTRY = re.compile(r"([A-Za-z0-9._-]+)==([^ ;\\]+)(?: ; [^\\]+?)? \\")
_HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")
BACK = "git checkout -- envs/{name}/{file}, or make it anew: make lock"


def locks(place: Place) -> Iterator[Finding]:
    """Each lock of each environment, line by line; then that they agree on torch."""
    torch = {}
    for env in place.environments().values():
        for file in dict.fromkeys(("requirements.lock", "dev.lock", *sorted(path.name for path in env.folder.glob("*.lock")))):
            pins, wrong = _read(env, file)
            if wrong:
                yield _wrong(env, file, wrong, f"`{FIRST_LINE}`, then every package with its hashes, as ci/lock writes them")
            elif missing := _missing(place.definition(env), pins):
                yield _wrong(env, file, f"not locked: {', '.join(missing)}", f"every dependency that envs/{env.name}/pyproject.toml names")
            else:
                yield info(f"envs/{env.name}/{file}: {len(pins)} packages, each with its hashes", str(env.folder / file))
            if file == "requirements.lock":
                torch[env.name] = " or ".join(sorted(pins.get("torch", {"none"})))
    if len(set(torch.values())) > 1:
        yield error(
            "torch differs: " + ", ".join(f"{version} in `{name}`" for name, version in torch.items()),
            expected="one version in both environments, so that a difference between export and inference is never one of libraries",
            remedy="set the same torch in envs/export/pyproject.toml and envs/train/pyproject.toml, then run make lock",
            evidence="envs/*/requirements.lock",
        )
    else:
        yield info(f"torch {next(iter(torch.values()))} in every environment", "envs/*/requirements.lock")


def _read(env: Environment, file: str) -> tuple[dict[str, set[str]], str]:
    """Versions by package, and the first thing wrong with the text, or nothing."""
    try:
        lines = (env.folder / file).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as problem:
        return {}, f"cannot be read: {getattr(problem, 'strerror', None) or problem}"
    pins: dict[str, set[str]] = {}
    for line in lines:
        if match := _ENTRY.fullmatch(line):
            pins.setdefault(match[1].lower().replace("_", "-"), set()).add(match[2])
    if lines[0] != FIRST_LINE:
        return pins, f"line 1 is `{lines[0][:60]}`"
    if lines[-1]:
        return pins, f"cut off in line {len(lines)}: `{lines[-1].strip()[:60]}`"
    open_entry = False  # whether the line before ends in a backslash
    for number, line in enumerate(lines[1:-1], 2):
        match = _HASH.fullmatch(line) if open_entry else _ENTRY.fullmatch(line)
        if not match:
            return pins, f"line {number} is `{line.strip()[:60]}`, where {'a hash' if open_entry else 'a package'} is due"
        open_entry = line.endswith("\\")
    return pins, f"cut off after line {len(lines) - 1}" if open_entry or not pins else ""


def _missing(definition: dict[str, Any], pins: dict[str, set[str]]) -> list[str]:
    """Direct dependencies, by their requirement, of which the lock has no version that satisfies them."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    needs = [Requirement(line) for line in definition["project"]["dependencies"]]
    return [str(n) for n in needs if not any(n.specifier.contains(version, prereleases=True) for version in pins.get(canonicalize_name(n.name), ()))]


def _wrong(env: Environment, file: str, found: str, expected: str) -> Finding:
    remedy = BACK.format(name=env.name, file=file)
    return error(f"envs/{env.name}/{file}: {found}", expected=expected, remedy=remedy, evidence=str(env.folder / file))


def wheel_lists(place: Place) -> Iterator[Finding]:
    """ci/wheels.py: every list for Nix was made from its lock as it is now. A lock that was edited by hand shows here, too."""
    script = place.root / "ci" / "wheels.py"
    for python in (place.root / ".venv" / "bin" / "python", Path(sys.executable), Path(on_path("python3") or sys.executable)):
        if ask([python, "-I", "-c", "import packaging, tomllib"]).ok:
            break
    else:
        raise ModuleNotFoundError(name="packaging")
    told = ask([python, script, "check"], cwd=place.root)
    lines = [line for line in told.out.splitlines() if not line.startswith("hint:")]
    if told.ok:
        yield info(" ".join(lines), "ci/wheels.py check")
    for line in [] if told.ok else lines or [told.why]:
        yield error(
            line,
            expected="lists made from the locks as they are",
            remedy="a lock that was edited: git checkout -- envs; one that is meant: make lock",
            evidence="ci/wheels.py check",
        )
