"""The virtual environments: made, running, of the lock as it is now, and able to load what is compiled in them.

Here: what their own interpreters answer, without importing a tensor library. Not here: locks (locks.py), Pythons to make them of (interpreters.py).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from interlock.environments import Environment, platform_name
from interlock.errors import EnvironmentRefused
from pipeline.doctor.asking import Answer, ask
from pipeline.doctor.finding import Finding, error, info, warning
from pipeline.doctor.place import Place

_WHO = """
import json, platform
try:
    from packaging.specifiers import SpecifierSet
    fits = SpecifierSet({required!r}).contains(platform.python_version(), prereleases=True)
except ImportError:
    fits = None
print(json.dumps({{"version": platform.python_version(), "fits": fits}}))
"""

# The compiled parts are loaded by their files: importing the package takes seconds and imports torch.
_NATIVE = """
import importlib.machinery, importlib.util, json, pathlib, sys
spec = importlib.machinery.PathFinder.find_spec("coremltools")
folder, told = spec and pathlib.Path(spec.origin).parent, {{}}
for name in {names!r}:
    print(name, file=sys.stderr, flush=True)  # the last one, if loading it ends this process
    files = sorted(folder.glob(name + ".*")) if folder else []
    try:
        part = importlib.util.spec_from_file_location(name, files[0])
        part.loader.exec_module(importlib.util.module_from_spec(part))
    except IndexError:
        told[name] = "it is not there"
    except BaseException as problem:
        told[name] = str(problem)[:300]
print(json.dumps({{"folder": str(folder), "wrong": told}}))
"""
# libcoremlpython runs models and exists on macOS only.
_PARTS = ("libmilstoragepython", "libmodelpackage", *(("libcoremlpython",) if sys.platform == "darwin" else ()))


def virtual_environments(place: Place) -> Iterator[Finding]:
    """Each one: whether it is there, its interpreter runs, fits the definition, and was filled from the lock as it is."""
    for env in place.environments().values():
        yield _made(place, env)


def _made(place: Place, env: Environment) -> Finding:
    folder, again = f"envs/{env.name}/.venv", f"ci/sync --force {env.name}"
    expected = f"Python {env.requires_python} with envs/{env.name}/requirements.lock"
    if not (env.folder / ".venv").is_dir():
        return place.needed(f"environment `{env.name}` is not made", expected=expected, remedy=f"ci/sync {env.name}", evidence=f"no folder {folder}")
    if not env.python.exists():
        target = f" -> {env.python.readlink()}" if env.python.is_symlink() else ""
        what = "leads to no file: the Python that it was made of is gone" if target else "is not there"
        return place.needed(f"the Python of environment `{env.name}` {what}", expected=expected, remedy=again, evidence=f"{env.python}{target}")
    told, who = _ask(env, _WHO.format(required=env.requires_python))
    if who is None:
        return place.needed(
            f"the Python of environment `{env.name}` does not run: {told.why}", expected=expected, remedy=again, evidence=str(env.python)
        )
    if who["fits"] is False:
        return place.needed(f"environment `{env.name}` has Python {who['version']}", expected=expected, remedy=again, evidence=str(env.python))
    if not env.synced:
        found = f"environment `{env.name}` was not filled from its lock as it is now"
        return place.needed(found, expected=expected, remedy=f"ci/sync {env.name}", evidence=f"{folder}/.synced is not the lock")
    return info(f"environment `{env.name}`: Python {who['version']}, filled from its lock", str(env.python))


def installed(place: Place) -> Iterator[Finding]:
    """A glance at the code in each environment, as before a stage starts; `interlock env check` reads every file."""
    from pipeline.installed import glance, note

    for env in place.environments().values():
        venv = env.folder / ".venv"
        if not env.python.exists():
            continue  # virtual_environments says so
        if note.read(venv) is None:
            found, expected = f"environment `{env.name}` has no note of what was installed", "the note that ci/install leaves"
            yield warning(found, expected=expected, remedy=f"ci/sync --force {env.name}", evidence=str(venv / note.FILE))
            continue
        try:
            glance.refuse_changed(env, env.python)
            yield info(f"the code in environment `{env.name}` is as it was installed (`interlock env check` reads every file)", str(venv / note.FILE))
        except EnvironmentRefused as changed:
            yield place.needed(f"{changed.problem}: {changed.running}", expected=changed.required, remedy=changed.remedy, evidence=str(venv))


def native_libraries(place: Place) -> Iterator[Finding]:
    """The compiled parts of coremltools, loaded where conversion will load them: without them it writes no weights, and says so late."""
    for env in place.environments().values():
        if "coremltools" not in env.locked() or not env.python.exists():
            continue
        told, answer = _ask(env, _NATIVE.format(names=_PARTS))
        if answer is None:
            yield error(
                f"the compiled parts of coremltools cannot be loaded; it ended at {told.why}",
                expected=f"an answer of the Python of environment `{env.name}`",
                remedy=f"ci/sync --force {env.name}",
                evidence=str(env.python),
            )
        elif not answer["wrong"]:
            yield info(f"coremltools in `{env.name}` loads {', '.join(_PARTS)}", answer["folder"])
        for name, problem in (answer or {"wrong": {}})["wrong"].items():
            yield error(
                f"coremltools' {name} in environment `{env.name}` does not load: {problem}",
                expected="a wheel with its compiled parts, and the system libraries that they name",
                remedy=f"ci/sync --force {env.name}; if a system library is named: apt-get install libstdc++6 zlib1g",
                evidence=str(answer["folder"]) if answer else str(env.python),
            )


def _ask(env: Environment, code: str) -> tuple[Answer, dict[str, Any] | None]:
    """What the environment's interpreter answers to `code`, in JSON; None where it gives none."""
    told = ask([env.python, "-I", "-c", code])
    try:
        return told, json.loads(told.out) if told.ok else None
    except ValueError:
        return told, None


def compatibility(place: Place) -> Iterator[Finding]:
    """What was measured of the locked versions: whether each way of converting gives a package that computes what torch does."""
    from pipeline.compat.table import good, load

    table = load()
    for env in place.environments().values():
        python = env.python_version or place.pythons()[env.name].removeprefix("python") + ".0"
        pins = env.pins(python)
        if "coremltools" not in pins:
            continue
        versions = pins["torch"], python, pins["coremltools"], pins["numpy"]
        words = "torch {}, Python {}, coremltools {}, numpy {}".format(*versions)
        column = table.column_for(*versions, platform_name()) or table.column_for(*versions)
        if column is None:
            expected = "versions that are in the table (docs/compat.md)"
            yield warning(f"nobody has measured {words}", expected=expected, remedy="ci/compat", evidence="pipeline/compat/table.json")
            continue
        bad = [name for name, result in column.cells.items() if not good(result)]
        where = f"pipeline/compat/table.json, measured on {column.versions.platform}"
        if bad:
            told, expected = f"{words}: {', '.join(bad)} do not convert correctly", "every case, or nothing that needs these (docs/compat.md)"
            yield warning(
                told, expected=expected, remedy=f"lock other versions: make lock UPGRADE=--upgrade, or envs/{env.name}/pyproject.toml", evidence=where
            )
        else:
            yield info(f"{words}: {len(column.cells)} conversions measured, all as expected", where)
