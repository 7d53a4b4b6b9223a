"""The interpreter of a virtual environment: the one that was chosen, of an admitted version, and without the system's packages.

Here: pyvenv.cfg and the program. Not here: which interpreter an environment is made with (ci/sync), admission of the running one.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from interlock.environments import Environment, python_version_in
from pipeline.installed.differences import Difference, what_is_at

_VERSION = "import platform; print(platform.python_version())"


def differences(env: Environment, python: Path) -> Iterator[Difference]:
    """pyvenv.cfg and the program that it names are one, of a version that the definition admits; nothing of the system is let in."""
    from packaging.specifiers import SpecifierSet

    venv = python.parent.parent
    settings = dict(re.findall(r"^([\w-]+) = (.*)$", (venv / "pyvenv.cfg").read_text(encoding="utf-8"), re.MULTILINE))
    if settings.get("include-system-site-packages", "false") != "false":
        yield Difference(str(venv / "pyvenv.cfg"), "include-system-site-packages = false", settings["include-system-site-packages"])
    said = python_version_in(venv) or "none"
    home = Path(settings.get("home", "/"))
    if not python.exists() or not _leads_to(python, home):
        yield Difference(str(python), f"a link to the interpreter in {home}", what_is_at(python))
        return
    told = subprocess.run([python, "-I", "-S", "-c", _VERSION], capture_output=True, text=True, check=False)
    if told.stdout.strip() != said:
        yield Difference(str(python), f"Python {said} (pyvenv.cfg)", f"Python {told.stdout.strip() or told.stderr.strip()[-100:]}")
    if not SpecifierSet(env.requires_python).contains(said, prereleases=True):
        yield Difference(str(python), f"Python {env.requires_python} (requires-python of envs/{env.name}/pyproject.toml)", said)


def _leads_to(path: Path, home: Path) -> bool:
    """Whether a link, or one that it names, names a file in `home`. What that is in turn a link to, frameworks decide, and Homebrew."""
    while path.is_symlink():
        path = path.parent / path.readlink()
        if path.parent.resolve() == home.resolve():
            return True
    return False
