"""Compiled modules: which `.pyc` the interpreter would run, and whether it was made from the source beside it.

Here: PEP 3147's names, PEP 552's headers, and compiling again. Not here: the sources themselves, which a RECORD proves (check.py).
No RECORD has a hash of a `.pyc`: the interpreter writes it. It runs one whose header has the size and time of its source, and no other, so one that
has them not is harmless; one that has them may still hold other code. `compiled_otherwise` finds that, by compiling the source once more.
"""

from __future__ import annotations

import json
import re
import struct
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

_NAME = re.compile(r"^(?P<module>.+)\.cpython-\d+(?:\.opt-(?P<level>[12]))?\.pyc\Z")
BATCH = 400

# Run by the environment's own interpreter, without its packages. Code objects are compared, not bytes: marshal's depend on who else held an object.
_SCRIPT = """
import json, marshal, re, sys, warnings
warnings.simplefilter("ignore")
for file, source in json.load(sys.stdin):
    level = re.search(r"\\.opt-([12])\\.pyc$", file)
    try:
        with open(source, "rb") as text, open(file, "rb") as compiled:
            there = marshal.loads(compiled.read()[16:])
            same = there == compile(text.read(), source, "exec", dont_inherit=True, optimize=int(level[1]) if level else 0)
    except Exception:
        same = False
    if not same:
        print(json.dumps(file))
"""


def source_of(file: Path) -> Path | None:
    """The module that a file in a `__pycache__` is compiled from, by its name; None where the name is no compiled module's."""
    match = _NAME.match(file.name)
    return file.parent.parent / f"{match['module']}.py" if match else None


def would_run(file: Path, source: Path) -> bool:
    """Whether the interpreter would run the compiled module instead of its source. Raises OSError.

    Also where the header says that nobody is to look at the source (PEP 552): a hash in place of a time.
    """
    with file.open("rb") as stream:
        header = stream.read(16)
    if len(header) < 16:
        return False
    flags, time, size = struct.unpack("<4xIII", header)
    status = source.stat()
    return bool(flags) or (time, size) == (int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF)


def by_time(file: Path) -> bool:
    """Whether the header names its source by time and size, as the interpreter itself writes it. Raises OSError."""
    with file.open("rb") as stream:
        return stream.read(8)[4:] == bytes(4)


def compiled_otherwise(python: Path, pairs: Sequence[tuple[Path, Path]], progress: Callable[[int], None]) -> list[Path]:
    """Which compiled modules, each beside its source, are not what `python` compiles of it."""
    found: list[Path] = []
    for start in range(0, len(pairs), BATCH):
        some = pairs[start : start + BATCH]
        told = json.dumps([[str(file), str(source)] for file, source in some])
        child = subprocess.run([python, "-I", "-S", "-B", "-c", _SCRIPT], input=told, capture_output=True, text=True, check=False)
        # A file that ends the interpreter was made to: then all of its batch is in doubt.
        found += [Path(json.loads(line)) for line in child.stdout.splitlines()] if child.returncode == 0 else [file for file, _ in some]
        progress(len(some))
    return found
