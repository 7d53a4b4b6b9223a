"""The same kills by a tool that knows nothing of our code: strace ends the process on entry to its n-th system call of a kind, for every n.

What is killed here is not what `Fs` announces but what the kernel is asked: a change that went past `Fs` would be met as well.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.publications import NEW, OLD, build, command, left_over, state
from reliability.projects import Project, told

pytestmark = pytest.mark.needs("strace")
Score = Callable[[str, int, int], None]
CHANGES = ",".join(
    (
        "mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir,symlink,symlinkat",
        "openat,write,pwrite64,copy_file_range,ftruncate,fsync,chmod,fchmod,fchmodat",
    )
)
CALL = re.compile(r"^(?:\d+ +)?(\w+)\((.*)$")
SCRIPT = """
import sys
from pathlib import Path
from fakes.publications import command
command(Path(sys.argv[1]), int(sys.argv[2]))
"""


def traced(log: Path, argv: list[str], environ: dict[str, str], *options: str) -> int:
    words = ["strace", "-f", "-qq", "-y", "-s", "256", "-o", str(log), "-e", f"trace={CHANGES}", *options, *argv]
    return subprocess.run(words, env=environ, check=False, capture_output=True).returncode


def changes(log: Path, folder: Path) -> list[tuple[str, int]]:
    """Every call that changes something under `folder`: its name and the how manieth of that name it is."""
    count: Counter[str] = Counter()
    found = []
    for line in log.read_text(errors="replace").splitlines():
        match = CALL.match(line)
        if not match:
            continue
        name, rest = match.groups()
        count[name] += 1
        if str(folder) in rest and not (name == "openat" and "O_CREAT" not in rest):
            found.append((name, count[name]))
    return found


@pytest.mark.parametrize("replacing", [False, True], ids=["first", "replacing"])
def test_publish_is_killed_on_entry_to_every_system_call(replacing: bool, memory: Path, extent: bool, score: Score) -> None:
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}
    log = memory / "log"

    def begin(name: str) -> Path:
        out = memory / name / "out"
        out.parent.mkdir()
        if replacing:
            build(out, OLD)
        return out

    def argv(out: Path) -> list[str]:
        return [sys.executable, "-c", SCRIPT, str(out), str(NEW)]

    counted = begin("000")
    assert traced(log, argv(counted), environ) == 0
    points = changes(log, counted.parent)
    assert len(points) > 25 and {"fsync", "write", "mkdir"} <= {name for name, _ in points}
    bad = []
    tried = points if extent else points[::8]
    for n, (name, when) in enumerate(tried):
        out = begin(f"{n + 1:03}")
        code = traced(log, argv(out), environ, "-e", f"inject={name}:signal=KILL:when={when}")
        found = state(out)
        command(out, NEW)
        if code not in (-9, 137) or found not in ((OLD if replacing else None), NEW) or state(out) != NEW or left_over(out):
            bad.append((name, when, code, found, left_over(out)))
    score("kills", len(tried) - len(bad), len(tried))
    assert not bad


def test_a_build_is_killed_on_entry_to_its_system_calls(memory: Path, stub_python: Path, extent: bool, score: Score) -> None:
    """Driver, stages and their threads each count for themselves: whoever comes first to the n-th call of a kind dies there."""
    undisturbed = Project(memory / "undisturbed", stub_python)
    undisturbed.write()
    undisturbed.build()
    points = [(name, when) for name in ("mkdir", "rename", "fsync", "unlink", "flock", "write") for when in (1, 2, 3, 5, 8, 13, 21, 34, 55)]
    tried = points if extent else points[::14]
    bad, hit = [], 0
    for n, (name, when) in enumerate(tried):
        project = Project(memory / f"project-{n}", stub_python)
        project.write()
        before = project.inputs()
        words = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={when}"]
        hit += project.run_behind(words).code != 0
        ended, wrong = project.ends_within(5), project.wrong()
        plain = project.plain()
        same = plain.code == 0 and project.digest() == undisturbed.digest()
        if not (ended and same and told(plain)) or wrong or project.wrong() or project.left_over() or project.inputs() != before:
            bad.append((name, when, ended, wrong, plain))
    score("kills", len(tried) - len(bad), len(tried))
    assert not bad
    assert hit >= len(tried) // 2
