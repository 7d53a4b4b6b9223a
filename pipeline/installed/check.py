"""The proof: an environment as it is installed against its lock, down to the bytes of every file.

Here: what is asked, in which order. Not here: each answer (interpreter.py, packages.py, contents.py), what to do about it (pipeline/verbs/env).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from interlock.environments import Environment, python_version_in
from interlock.voice import SilentVoice, Voice
from pipeline.driver.index import Index
from pipeline.installed import contents, interpreter, packages
from pipeline.installed.differences import Difference, Guest, Proof
from pipeline.installed.distributions import Distribution, Entry, distributions


def check(
    env: Environment, python: Path, *, lock: Path | None = None, index: Index | None = None, paranoid: bool = False, voice: Voice | None = None
) -> Proof:
    """Compare the virtual environment of `python` with `lock` (the definition's own by default).

    With `index` a file that is as it was at its last look is not read again. `paranoid` reads all, and compiles each compiled module once more.
    """
    venv, lock, voice = python.parent.parent, lock or env.lock_file, voice or SilentVoice()
    if not (venv / "pyvenv.cfg").is_file():
        return Proof([Difference(str(venv), "a virtual environment", "none")], [], 0, 0, 0)
    pins = env.pins(python_version_in(venv), lock)
    present = distributions(venv)
    read = [(one, _entries(one)) for one in present]
    entries = [(entry, one.name) for one, said in read if not isinstance(said, str) for entry in said]
    named = {entry.path for entry, _ in entries} | {str(one.record) for one in present}

    def found() -> Iterator[Difference]:
        yield from interpreter.differences(env, python)
        yield from packages.differences(venv, lock, pins, present)
        yield from (Difference(str(one.record), "a RECORD", said, one.name) for one, said in read if isinstance(said, str))
        yield from contents.changed(entries, None if paranoid else index or Index(), voice)
        yield from contents.unnamed(python, named, voice, paranoid=paranoid)

    return Proof(
        differences=list(found()),
        guests=[Guest(one.name, one.version) for one in present if one.name not in pins and packages.is_guest(one)],
        dists=len(present),
        files=len(entries),
        size_bytes=sum(entry.size or 0 for entry, _ in entries),
    )


def _entries(one: Distribution) -> list[Entry] | str:
    """The files that a RECORD names, or why it cannot be read."""
    try:
        return list(one.entries())
    except (OSError, ValueError) as error:
        return str(error)
