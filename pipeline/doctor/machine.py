"""The machine: memory, processors, clock, text, descriptors, what is compiled or opened with it.

Here: one function per thing. Not here: disks (disk.py), Pythons (interpreters.py).
"""

from __future__ import annotations

import locale
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from interlock.environments import platform_name
from interlock.voice import human
from pipeline.doctor.asking import ask
from pipeline.doctor.finding import Finding, info, optional, warning
from pipeline.doctor.place import Place
from pipeline.launchers import on_path

# Two interpreters with torch and coremltools in memory, and the weights of a small student in three forms.
MEMORY_BYTES = 4 << 30
# A conversion opens some hundred; a build of several stages at once some more.
DESCRIPTORS = 1024
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CGROUP = Path("/sys/fs/cgroup")


def system(place: Place) -> Iterator[Finding]:
    """What runs this, and which environments exist for it."""
    from pipeline.launchers.nix import system_name

    yield info(f"{platform_name()}, Python {platform.python_version()}", sys.executable)
    if not place.is_clone:
        yield info(f"no clone: a copy of the project, whose environments are those of launcher `{place.launcher}`", str(place.root))
    for env in place.environments().values():
        systems = place.definition(env)["tool"]["interlock"]["systems"]
        if system_name() not in systems:
            yield warning(
                f"environment `{env.name}` does not exist on {system_name()}",
                expected=f"one of {', '.join(systems)}",
                remedy="run its stages on one of those systems, and bring the artifacts here",
                evidence=f"systems in envs/{env.name}/pyproject.toml",
            )


def memory(place: Place) -> Iterator[Finding]:
    total, where = _memory()
    if total >= MEMORY_BYTES:
        yield info(f"{human(total, 'B')} of memory", where)
        return
    yield warning(
        f"{human(total, 'B')} of memory",
        expected=f"{human(MEMORY_BYTES, 'B')} or more, for export and conversion of a small student",
        remedy="raise the limit of this container or session, or build on a larger machine",
        evidence=where,
    )


def _memory() -> tuple[int, str]:
    """The least of what the machine has and what this process's control group may have."""
    found = [(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "sysconf")]
    for file in (CGROUP / "memory.max", CGROUP / "memory" / "memory.limit_in_bytes"):
        text = file.read_text(encoding="ascii").strip() if os.access(file, os.R_OK) else ""
        found += [(int(text), str(file))] if text.isdigit() else []
    return min(found)


def processors(place: Place) -> Iterator[Finding]:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = (CGROUP / "cpu.max").read_text(encoding="ascii").split() if os.access(CGROUP / "cpu.max", os.R_OK) else []
    share = f", of which {int(quota[0]) / int(quota[1]):.1f} may be used" if len(quota) == 2 and quota[0].isdigit() else ""
    yield info(f"{count} processors{share}", "sched_getaffinity" + (f", {CGROUP / 'cpu.max'}" if share else ""))


def clock(place: Place) -> Iterator[Finding]:
    """A clock that is behind: certificates look as if they were not valid yet, and changed files as if they were old."""
    files = [place.root / name for name in ("envs/train/requirements.lock", "envs/export/requirements.lock", "tox.ini", "pyproject.toml")]
    newest = max((max(status.st_mtime, status.st_ctime), path) for path in files if path.exists() for status in [path.stat()])
    ahead = newest[0] - time.time()
    if ahead < 2:
        yield info(f"the clock is past every file of the clone ({time.strftime('%Y-%m-%d', time.gmtime())})", str(newest[1]))
        return
    yield warning(
        f"the clock is {ahead:.0f} s behind a file of the clone",
        expected="a clock that is past what was written before",
        remedy="set it (`timedatectl set-ntp true`); if the file's time is wrong: touch the file",
        evidence=str(newest[1]),
    )


def text(place: Place) -> Iterator[Finding]:
    """How names of files and messages are encoded."""
    output = getattr(sys.__stdout__, "encoding", None) or "utf-8"  # sys.stdout may be a progress bar's
    named = {"file names": sys.getfilesystemencoding(), "text": locale.getpreferredencoding(False), "output": output}
    wrong = {what: name for what, name in named.items() if name.lower().replace("-", "") != "utf8"}
    variables = " ".join(f"{name}={os.environ[name]}" for name in ("LC_ALL", "LC_CTYPE", "LANG", "PYTHONIOENCODING") if name in os.environ)
    if not wrong:
        yield info("text is UTF-8", variables)
        return
    yield warning(
        ", ".join(f"{what} in {name}" for what, name in wrong.items()),
        expected="UTF-8",
        remedy="export LC_ALL=C.UTF-8, and unset PYTHONIOENCODING",
        evidence=variables or "no variable names a locale",
    )


def descriptors(place: Place) -> Iterator[Finding]:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
    if soft == resource.RLIM_INFINITY or soft >= DESCRIPTORS:
        yield info(f"{soft} open files allowed", "ulimit -n")
        return
    raised = min(4 * DESCRIPTORS, hard) if hard != resource.RLIM_INFINITY else 4 * DESCRIPTORS
    yield warning(
        f"{soft} open files allowed (at most {most})", expected=f"{DESCRIPTORS} or more", remedy=f"ulimit -n {raised}", evidence="ulimit -n"
    )


def compiler(place: Place) -> Iterator[Finding]:
    """$CC or `cc`, with which runtime/kernels compiles on first use. Only asked: importing that room imports torch."""
    argv = shlex.split(os.environ.get("CC", "")) or ["cc"]
    told = ask([*argv, "--version"])
    if told.ok:
        yield info((told.out.splitlines() or ["a compiler without a version"])[0], on_path(argv[0]) or argv[0])
        return
    yield warning(
        f"no C compiler: {told.why}",
        expected="one, for products on packed weights; without it torch computes them, slower",
        remedy="apt-get install gcc (macOS: xcode-select --install), or name one: export CC=/path/to/cc",
        evidence=f"CC={os.environ.get('CC', '')}",
    )


def chromium(place: Place) -> Iterator[Finding]:
    """Only tests of pages open it; names as in ci/chromium."""
    names = [name for name in (os.environ.get("INTERLOCK_CHROMIUM"), *CHROMIUM) if name]
    path = next(filter(None, map(on_path, names)), None)
    if path:
        yield info(f"Chromium for tests of pages: {path}", "PATH")
    else:
        yield optional("no Chromium", expected="one on PATH, for tests of pages and nothing else", remedy="ci/chromium", evidence="PATH")
