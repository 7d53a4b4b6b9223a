"""The files of a virtual environment against the RECORDs of its distributions: every byte, and no file that none names.

Here: the two directions. Not here: whether the RECORDs are those that were installed (packages.py), compiled modules' form (bytecode.py).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from interlock.voice import Voice
from pipeline.driver.index import Index
from pipeline.installed import bytecode, files
from pipeline.installed.differences import Difference, what_is_at
from pipeline.installed.distributions import Entry, site_packages

# What `uv venv` and virtualenv put into `bin` beside the interpreter; no RECORD names it, and nothing of ours runs it.
_HELPERS = re.compile(r"(activate(\.\w+)?|activate_this\.py|deactivate\.bat|pydoc\.bat|python(3(\.\d+)?)?)\Z")


def changed(entries: Sequence[tuple[Entry, str]], index: Index | None, voice: Voice) -> Iterator[Difference]:
    """Files that have not the bytes that a RECORD names; one of several distributions has those of one of them.

    entries: each file with its distribution; index: what is known of files that have not changed, None to read all.
    """
    wanted: dict[str, set[str | None]] = {}
    owner: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for entry, name in entries:
        wanted.setdefault(entry.path, set()).add(entry.sha256)
        owner[entry.path], sizes[entry.path] = name, entry.size or 0
    with voice.task("read the environment", sum(sizes.values()), "B") as task:
        found = files.digests(wanted, index, lambda path: task.advance(sizes[path]))
    for path, digest in found.items():
        is_link = Path(path).is_symlink()
        if is_link or digest is None or digest not in wanted[path]:
            hashes = " or ".join(sorted(f"sha256 {one[:16]}" for one in wanted[path] if one)) or "a hash in its RECORD"
            there = f"sha256 {digest[:16]}" if digest and not is_link else what_is_at(Path(path))
            yield Difference(path, f"{hashes} ({owner[path]})", there, owner[path])


def unnamed(python: Path, named: Collection[str], voice: Voice, *, paranoid: bool) -> Iterator[Difference]:
    """Files where Python or a shell would find them that neither a RECORD names nor the interpreter has compiled of one that is named."""
    venv = python.parent.parent
    compiled: list[tuple[Path, Path]] = []
    for entry in (*files.walk(str(site_packages(venv) or venv)), *files.walk(str(venv / "bin"))):
        if entry.path in named:
            continue
        path = Path(entry.path)
        if path.parent == venv / "bin" and _HELPERS.match(path.name):
            continue
        source = bytecode.source_of(path) if path.parent.name == files.CACHE else None
        if source is None or str(source) not in named:
            yield Difference(str(path), "no file that no RECORD names", what_is_at(path))
        elif not bytecode.by_time(path):
            yield Difference(str(path), "compiled by the interpreter itself", "compiled so that its source is not looked at")
        elif bytecode.would_run(path, source):
            compiled.append((path, source))
    if paranoid:
        with voice.task("compile its modules again", len(compiled), "modules") as task:
            for path in bytecode.compiled_otherwise(python, compiled, task.advance):
                yield Difference(str(path), "what its source compiles to", "other code")
