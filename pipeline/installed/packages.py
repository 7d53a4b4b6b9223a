"""The distributions of a virtual environment against its lock: each that is demanded, as it was installed, and no other.

Here: names, versions and RECORDs. Not here: the files that RECORDs name (contents.py).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from interlock.environments import ROOT
from pipeline.installed import note
from pipeline.installed.differences import Difference
from pipeline.installed.distributions import Distribution

PROJECT = "interlock"
# A package that offers these is installed beside the lock on purpose (docs/plugins.md).
_GUESTS = re.compile(r"^\[interlock\.(stages|gates)\]", re.MULTILINE)


def differences(venv: Path, lock: Path, pins: Mapping[str, str], present: Sequence[Distribution]) -> Iterator[Difference]:
    """pins: what `lock` demands of this interpreter, by name; present: what is installed."""
    noted = note.read(venv)
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    if noted is None:
        yield Difference(str(venv / note.FILE), "the note that its installation left", "none")
    elif noted.lock != digest:
        yield Difference(str(venv / note.FILE), f"a note of lock {digest[:16]}, as {lock.name} is now", f"one of lock {noted.lock[:16]}")
    for name, count in Counter(one.name for one in present).items():
        if count > 1:
            yield Difference(name, "one installation", str(count), name)
    versions = {one.name: one for one in present}
    for name, version in pins.items():
        if name not in versions:
            yield Difference(name, version, "not installed", name)
        elif versions[name].version != version:
            yield Difference(name, version, versions[name].version, name)
        elif noted is not None and noted.dists.get(name, ("", ""))[1] != versions[name].record_digest:
            yield Difference(str(versions[name].record), "the RECORD that was installed", "another", name)
    for one in present:
        if one.name == PROJECT:
            yield from _project(one)
        elif one.name not in pins and not is_guest(one):
            yield Difference(one.name, "not installed", f"version {one.version}, of which {lock.name} knows nothing", one.name)


def is_guest(one: Distribution) -> bool:
    """Whether a distribution offers stages or gates to builds."""
    try:
        return bool(_GUESTS.search((one.folder / "entry_points.txt").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return False


def _project(one: Distribution) -> Iterator[Difference]:
    """The one distribution that is no part of the lock: this project, editable, one line that names its folder."""
    try:
        url = json.loads((one.folder / "direct_url.json").read_bytes())
        editable = url["dir_info"]["editable"] is True and url["url"] == ROOT.as_uri()
        line = (one.folder.parent / "_interlock.pth").read_text(encoding="utf-8").strip()
    except (OSError, ValueError, KeyError, TypeError):
        editable, line = False, ""
    if not editable or line != str(ROOT):
        yield Difference(str(one.folder), f"this project, editable: {ROOT}", line or "another installation", one.name)
