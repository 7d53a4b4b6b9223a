"""The proof: an environment as it is installed against its lock, down to the bytes of every file.

Here: what must hold, and each way in which it does not. Not here: reading (distributions.py, files.py), what to do about it (pipeline/verbs/env).
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from interlock.environments import ROOT, Environment, python_version_in
from interlock.voice import SilentVoice, Voice
from pipeline.driver.index import Index
from pipeline.installed import bytecode, files, note
from pipeline.installed.distributions import Distribution, Entry, distributions, site_packages

# What `uv venv` and virtualenv put into `bin` beside the interpreter; no RECORD names it, and nothing of ours runs it.
HELPERS = re.compile(r"(activate(\.\w+)?|activate_this\.py|deactivate\.bat|pydoc\.bat|python(3(\.\d+)?)?)\Z")
# A package that offers these is installed beside the lock on purpose (docs/plugins.md).
GUESTS = re.compile(r"^\[interlock\.(stages|gates)\]", re.MULTILINE)


@dataclass(frozen=True)
class Difference:
    """One way in which an environment is not what its lock says. `where` is a file or a distribution, `distribution` the one to install anew."""

    where: str
    expected: str
    found: str
    distribution: str | None = None

    def __str__(self) -> str:
        return f"{self.where}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True)
class Guest:
    """A distribution beside the lock that offers stages or gates: whoever installed it trusts it. Its files are proven by its own RECORD alone."""

    name: str
    version: str


@dataclass(frozen=True)
class Proof:
    """What was found. Without differences the environment is the locked one, by `files` files of `dists` distributions."""

    differences: list[Difference]
    guests: list[Guest]
    dists: int
    files: int
    size_bytes: int


def check(
    env: Environment, python: Path, *, lock: Path | None = None, index: Index | None = None, paranoid: bool = False, voice: Voice | None = None
) -> Proof:
    """Compare the virtual environment of `python` with `lock` (the definition's own by default).

    With `index` a file that is as it was at its last look is not read again. `paranoid` reads all, and compiles each compiled module once more.
    """
    return _Check(env, python, lock or env.lock_file, None if paranoid else index or Index(), paranoid, voice or SilentVoice()).run()


@dataclass
class _Check:
    env: Environment
    python: Path
    lock: Path
    index: Index | None
    paranoid: bool
    voice: Voice

    @cached_property
    def venv(self) -> Path:
        return self.python.parent.parent

    @property
    def again(self) -> str:
        return f"what envs/{self.env.name}/{self.lock.name} names"

    def run(self) -> Proof:
        if not (self.venv / "pyvenv.cfg").is_file():
            return Proof([Difference(str(self.venv), "a virtual environment", "none")], [], 0, 0, 0)
        found = list(self.interpreter())
        present = distributions(self.venv)
        found += self.locked(present)
        entries, unreadable = self.entries(present)
        found += unreadable
        found += self.contents(entries)
        found += self.unnamed({entry.path for entry, _ in entries} | {str(one.record) for one in present})
        guests = [Guest(one.name, one.version) for one in present if one.name not in self.pins and is_guest(one)]
        size = sum(entry.size or 0 for entry, _ in entries)
        return Proof(found, guests, len(present), len(entries), size)

    @cached_property
    def pins(self) -> dict[str, str]:
        return self.env.pins(python_version_in(self.venv), self.lock)

    def interpreter(self) -> Iterator[Difference]:
        """pyvenv.cfg and the program that it names are one, of a version that the definition admits; nothing of the system is let in."""
        from packaging.specifiers import SpecifierSet

        settings = dict(re.findall(r"^([\w-]+) = (.*)$", (self.venv / "pyvenv.cfg").read_text(encoding="utf-8"), re.MULTILINE))
        if settings.get("include-system-site-packages", "false") != "false":
            yield Difference(str(self.venv / "pyvenv.cfg"), "include-system-site-packages = false", settings["include-system-site-packages"])
        said = python_version_in(self.venv) or "none"
        home = Path(settings.get("home", "/"))
        program = self.python.resolve()
        if not self.python.is_symlink() or not program.is_file() or program.parent != home.resolve():
            yield Difference(str(self.python), f"a link to the interpreter in {home}", _kind(self.python))
            return
        told = subprocess.run(
            [self.python, "-I", "-S", "-c", "import platform; print(platform.python_version())"], capture_output=True, text=True, check=False
        )
        if told.stdout.strip() != said:
            yield Difference(str(self.python), f"Python {said} (pyvenv.cfg)", f"Python {told.stdout.strip() or told.stderr.strip()[-100:]}")
        if not SpecifierSet(self.env.requires_python).contains(said, prereleases=True):
            yield Difference(str(self.python), f"Python {self.env.requires_python} (requires-python of envs/{self.env.name}/pyproject.toml)", said)

    def locked(self, present: list[Distribution]) -> Iterator[Difference]:
        """Every distribution that the lock demands of this interpreter is there, in its version and as it was installed; no other is."""
        noted = note.read(self.venv)
        lock = hashlib.sha256(self.lock.read_bytes()).hexdigest()
        if noted is None:
            yield Difference(str(self.venv / note.FILE), "the note that its installation left", "none")
        elif noted.lock != lock:
            yield Difference(str(self.venv / note.FILE), f"lock {lock[:16]} ({self.again})", f"lock {noted.lock[:16]}")
        for name, count in Counter(one.name for one in present).items():
            if count > 1:
                yield Difference(name, "one installation", str(count), name)
        versions = {one.name: one for one in present}
        for name, version in self.pins.items():
            if name not in versions:
                yield Difference(name, version, "not installed", name)
            elif versions[name].version != version:
                yield Difference(name, version, versions[name].version, name)
            elif noted is not None and noted.dists.get(name, ("", ""))[1] != versions[name].record_digest:
                yield Difference(str(versions[name].record), "the RECORD that was installed", "another", name)
        for one in present:
            if one.name == "interlock":
                yield from _project(one)
            elif one.name not in self.pins and not is_guest(one):
                yield Difference(one.name, "not installed", f"version {one.version}, of which {self.lock.name} knows nothing", one.name)

    def entries(self, present: list[Distribution]) -> tuple[list[tuple[Entry, str]], list[Difference]]:
        """Each file that a RECORD names, with its distribution; and the RECORDs that cannot be read."""
        read = [(one, _entries(one)) for one in present]
        wrong = [Difference(str(one.record), "a RECORD", said, one.name) for one, said in read if isinstance(said, str)]
        return [(entry, one.name) for one, said in read if not isinstance(said, str) for entry in said], wrong

    def contents(self, entries: list[tuple[Entry, str]]) -> Iterator[Difference]:
        """Every file has the bytes that its RECORD names. A file of several distributions has those of one of them."""
        wanted: dict[str, set[str | None]] = {}
        owner: dict[str, str] = {}
        sizes: dict[str, int] = {}
        for entry, name in entries:
            wanted.setdefault(entry.path, set()).add(entry.sha256)
            owner[entry.path], sizes[entry.path] = name, entry.size or 0
        with self.voice.task(f"read environment {self.env.name}", sum(sizes.values()), "B") as task:
            found = files.digests(wanted, self.index, lambda path: task.advance(sizes[path]))
        for path, digest in found.items():
            is_link = Path(path).is_symlink()
            if is_link or digest is None or digest not in wanted[path]:
                hashes = " or ".join(sorted(f"sha256 {one[:16]}" for one in wanted[path] if one)) or "a hash in its RECORD"
                there = f"sha256 {digest[:16]}" if digest and not is_link else _kind(Path(path))
                yield Difference(path, f"{hashes} ({owner[path]})", there, owner[path])

    def unnamed(self, named: set[str]) -> Iterator[Difference]:
        """No file is where Python or a shell would find it but those that a RECORD names, and the compiled form of those."""
        site = site_packages(self.venv)
        compiled: list[tuple[Path, Path]] = []
        for entry in (*files.walk(str(site or self.venv)), *files.walk(str(self.venv / "bin"))):
            if entry.path in named:
                continue
            path = Path(entry.path)
            if path.parent == self.venv / "bin" and HELPERS.match(path.name):
                continue
            source = bytecode.source_of(path) if path.parent.name == files.CACHE else None
            if source is None or str(source) not in named:
                yield Difference(str(path), "no file that no RECORD names", _kind(path))
            elif not bytecode.by_time(path):
                yield Difference(str(path), "compiled by the interpreter itself", "compiled so that its source is not looked at")
            elif bytecode.would_run(path, source):
                compiled.append((path, source))
        if self.paranoid:
            with self.voice.task(f"compile the modules of {self.env.name} again", len(compiled), "modules") as task:
                for path in bytecode.compiled_otherwise(self.python, compiled, task.advance):
                    yield Difference(str(path), "what its source compiles to", "other code")


def is_guest(one: Distribution) -> bool:
    """Whether a distribution offers stages or gates to builds."""
    try:
        return bool(GUESTS.search((one.folder / "entry_points.txt").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return False


def _entries(one: Distribution) -> list[Entry] | str:
    """The files that a RECORD names, or why it cannot be read."""
    try:
        return list(one.entries())
    except (OSError, ValueError) as error:
        return str(error)


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


def _kind(path: Path) -> str:
    if path.is_symlink():
        return f"a link to {path.readlink()}"
    return "a file" if path.is_file() else "nothing" if not path.exists() else "no regular file"
