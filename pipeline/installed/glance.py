"""A glance at an environment before something runs in it: whether a file that Python loads as code has changed since it was installed.

Here: sizes and times against the installation's note, in about a tenth of a second; what differs is read. Not here: the proof (check.py), which reads
everything. A change whose size and time were put back, and files that are no code, are the proof's to find.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from interlock.environments import Environment
from interlock.errors import EnvironmentRefused
from pipeline.driver.keys import sha256_of
from pipeline.installed import note
from pipeline.installed.distributions import distributions, site_packages
from pipeline.installed.files import code_stats

SHOWN = 5


def refuse_changed(env: Environment, python: Path, then: str = "") -> None:
    """Raises EnvironmentRefused where code in the virtual environment of `python` is not as it was installed. Without a note there is nothing to
    compare with. `then` is what makes that one anew, where `ci/sync` does not."""
    changed = changes(python.parent.parent)
    if not changed:
        return
    more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    raise EnvironmentRefused(
        f"environment `{env.name}` is not as it was installed",
        required=f"the files of envs/{env.name}/requirements.lock",
        running=f"{', '.join(f'{path} ({what})' for path, what in sorted(changed.items())[:SHOWN])}{more}",
        remedy=f"make it anew: `ci/sync --force {env.name}`{then} (`interlock env check {env.name}` names every difference)",
    )


def changes(venv: Path) -> dict[str, str]:
    """What was edited, added or removed, by path."""
    noted = note.read(venv)
    if noted is None:
        return {}
    site, there = site_packages(venv), code_stats(venv)
    suspects = {path for path in {**noted.stats, **there} if list(noted.stats.get(path, ())) != list(there.get(path, ()))}
    return _read(venv, site, suspects, noted) if site and suspects else {}


def _read(venv: Path, site: Path, suspects: set[str], noted: note.Note) -> dict[str, str]:
    """Which of the files are really others than the RECORD of an installed distribution names."""
    named: dict[str, set[str | None]] = {}
    found: dict[str, str] = {}
    for one in distributions(venv):
        paths = set()
        with contextlib.suppress(OSError, ValueError):
            for entry in one.entries():
                if (path := entry.path[len(str(site)) + 1 :]) in suspects:
                    named.setdefault(path, set()).add(entry.sha256)
                    paths.add(path)
        if paths and noted.dists.get(one.name, ("", one.record_digest))[1] != one.record_digest:
            found |= dict.fromkeys(paths, "edited, and its RECORD with it")
    for path in suspects - set(found):
        if not (site / path).is_file():
            found[path] = "removed"
        elif path not in named:
            found[path] = "added"
        elif sha256_of(site / path) not in named[path]:
            found[path] = "edited"
    return found
