"""The Pythons and the tools that environments are made with.

Here: finding them as ci/env does. Not here: the environments made with them (environments.py).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.doctor.asking import ask
from pipeline.doctor.finding import Finding, info
from pipeline.doctor.place import Place
from pipeline.launchers import on_path

_PINNED = re.compile(r"^([\w.-]+)==([^\s;\\]+)", re.MULTILINE)


def interpreters(place: Place) -> Iterator[Finding]:
    """Each Python that tox.ini names, where ci/env would find it."""
    surroundings = place.surroundings()
    for env, name in sorted(place.pythons().items()):
        found = _found(place, name, surroundings)
        first = on_path(name)
        shim = first if first and Path(first).parent.name == "shims" else None
        if found:
            beside = f"; `{name}` on PATH is pyenv's shim {shim}, which ci/env looks behind" if shim else ""
            yield info(f"{name} for environment `{env}`: {found}{beside}", "PATH and pyenv's folders, as ci/env searches them")
            continue
        version = name.removeprefix("python")
        yield place.needed(
            f"{name} is not there" + (f"; pyenv's shim {shim} has none behind it" if shim else ""),
            expected=f"{name}, of which environment `{env}` is made (base_python in tox.ini)",
            remedy=f"apt-get install {name} {name}-venv, brew install python@{version}, pyenv install {version}, or "
            f"{place.root / '.uv' / 'bin' / 'uv'} python install {version}; one elsewhere is named by UV_PYTHON_SEARCH_PATH",
            evidence=f"PATH={os.environ.get('PATH', '')}",
        )


def _found(place: Place, name: str, surroundings: dict[str, str]) -> str | None:
    """By uv where it is there; it does not count Pythons of virtual environments."""
    folders = surroundings["PATH"].split(os.pathsep)
    uv = next((path for folder in folders if os.access(path := Path(folder, "uv"), os.X_OK)), None)
    if uv:
        told = ask([uv, "python", "find", "--no-project", "--system", name.removeprefix("python")], environ=surroundings, cwd=place.root)
        if told.code is not None:
            return told.out.strip() if told.ok else None
    for folder in folders:  # not yet set up: whatever runs under that name
        if os.access(path := Path(folder, name), os.X_OK) and ask([path, "-I", "-c", ""], environ=surroundings).ok:
            return str(path)
    return None


def tools(place: Place) -> Iterator[Finding]:
    """uv and tox, in the versions that ci/ pins by hash."""
    yield from _uv(place)
    yield from _tox(place)


def _uv(place: Place) -> Iterator[Finding]:
    wanted = _pins(place, "uv.txt")["uv"]
    for folder in (".uv", ".venv"):
        uv = place.root / folder / "bin" / "uv"
        told = ask([uv, "--version"])
        version = told.out.split()[1] if told.ok and len(told.out.split()) > 1 else None
        if version == wanted:
            yield info(f"uv {version} in {folder}", str(uv))
        else:
            evidence = str(uv) if told.ok else told.why
            yield _set_up_anew(place, f"uv {version or 'is not there'} in {folder}", f"uv {wanted} (ci/uv.txt)", folder, evidence)


def _tox(place: Place) -> Iterator[Finding]:
    pins = _pins(place, "requirements.txt")
    installed = {}
    for information in place.root.glob(".venv/lib/python3*/site-packages/*.dist-info"):
        name, _, version = information.name.removesuffix(".dist-info").partition("-")
        installed[name.lower().replace("_", "-")] = version
    wrong = [f"{name} {installed.get(name, 'is not there')}" for name in ("tox", "tox-uv") if installed.get(name) != pins[name]]
    python = place.root / ".venv" / "bin" / "python"
    if not wrong and (told := ask([python, "-I", "-c", ""])).ok:
        yield info(f"tox {pins['tox']} and tox-uv {pins['tox-uv']} in .venv", str(python))
    else:
        found = ", ".join(wrong) or f"the Python of .venv does not run: {told.why}"
        yield _set_up_anew(place, found, f"tox {pins['tox']}, tox-uv {pins['tox-uv']} (ci/requirements.txt)", ".venv", str(python))


def _pins(place: Place, name: str) -> dict[str, str]:
    """Raises OSError, and KeyError for what is asked and not pinned."""
    return dict(_PINNED.findall((place.root / "ci" / name).read_text(encoding="utf-8")))


def _set_up_anew(place: Place, found: str, expected: str, folder: str, evidence: str) -> Finding:
    there = (place.root / folder).exists()
    return place.needed(found, expected=expected, remedy=f"rm -rf {folder} && make environments" if there else "make environments", evidence=evidence)
