"""The C source as a shared object in the user's cache: compiled once per source, compiler and flags.

Here: the compiler, the cache key, whom a cached file may belong to. Not here: what is loaded from it (library.py).
A shared object is code: it is loaded only from a folder that belongs to this user and that no one else can write, and only when its bytes
are those that were published (a cut-off file would end the process, not raise).
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from interlock.errors import InterlockError
from interlock.fs import publish, workspace

SOURCE = Path(__file__).parent / "csrc"
# No -march: each file names its own instructions. No -ffast-math: it would assume that nothing is NaN. A square root needs no errno, nor a library.
# Nobody reads the flags of floating-point exceptions: without them loops with comparisons (silu) become vector code, and no value changes.
FLAGS = ("-std=c11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared", "-fvisibility=hidden", "-pthread")
OBJECT, DIGEST = "kernels.so", "sha256"
COMPILE_SECONDS = 300


class NoKernels(Exception):
    """Why there are no kernels here. Never reaches a user as an error: the caller falls back, `why()` tells."""


@dataclass(frozen=True)
class Compiler:
    """A C compiler: the words that start it and all that it says about its version."""

    argv: tuple[str, ...]
    version: str


def compiler() -> Compiler:
    """$CC, or `cc`. Raises NoKernels."""
    argv = tuple(shlex.split(os.environ.get("CC", ""))) or ("cc",)
    if shutil.which(argv[0]) is None:
        raise NoKernels(f"no C compiler: `{argv[0]}` was not found; install one, or name it in CC")
    return Compiler(argv, _say((*argv, "--version")))


def shared_object(found: Compiler) -> Path:
    """The compiled source, from the cache or built now (about ten seconds). Raises NoKernels."""
    folder = _cache() / "kernels" / _key(found)
    if not _sound(folder):
        try:
            _build(found, folder)
        except (InterlockError, NoKernels) as error:
            # Another process may have published the same in the meantime.
            if not _sound(folder):
                raise NoKernels(str(error)) from error
    if not all(_private(path) for path in (folder.parent, folder, folder / OBJECT)):
        raise NoKernels(f"`{folder}` does not belong to this user alone; remove it, or name another folder in INTERLOCK_CACHE_DIR")
    return folder / OBJECT


def _build(found: Compiler, folder: Path) -> None:
    sources = [str(path) for path in sorted(SOURCE.glob("*.c"))]
    with workspace(folder) as work:
        made = work.produce(OBJECT, lambda path: _compile((*found.argv, *FLAGS, "-o", str(path), *sources)))
        work.write(DIGEST, hashlib.sha256(made.read_bytes()).hexdigest().encode())
        publish(work, folder)


def _compile(argv: tuple[str, ...]) -> None:
    _say(argv)


def _say(argv: tuple[str, ...]) -> str:
    """What a compiler prints. Raises NoKernels with its first complaint."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=COMPILE_SECONDS, stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoKernels(f"the C compiler `{argv[0]}` did not run: {error}") from error
    if done.returncode:
        complaint = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[-200:])
        raise NoKernels(f"the C compiler `{argv[0]}` failed with status {done.returncode}: {complaint}")
    return done.stdout


def _key(found: Compiler) -> str:
    sources = [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in sorted(SOURCE.iterdir())]
    parts = [platform.system(), platform.machine(), found.argv, found.version, FLAGS, sources]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _cache() -> Path:
    """$INTERLOCK_CACHE_DIR, or the user's cache by the XDG base directory specification, which ignores relative paths."""
    if named := os.environ.get("INTERLOCK_CACHE_DIR"):
        return Path(named).absolute()
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (shared if shared.is_absolute() else Path.home() / ".cache") / "interlock"
    except RuntimeError as error:
        raise NoKernels("this user has no home folder to cache compiled kernels in; name one in INTERLOCK_CACHE_DIR") from error


def _sound(folder: Path) -> bool:
    """Whether a whole build lies there: its bytes have the digest that was published with them."""
    try:
        return hashlib.sha256((folder / OBJECT).read_bytes()).hexdigest() == (folder / DIGEST).read_text("ascii")
    except (OSError, UnicodeDecodeError):
        return False


def _private(path: Path) -> bool:
    """Whether it is this user's own and no one else can write it; links are not followed."""
    facts = path.lstat()
    writable = facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return facts.st_uid == os.geteuid() and not writable and not stat.S_ISLNK(facts.st_mode)
