"""Projects of stub stages under faults: the plain command, killed or starved, and what may be found afterwards.

Here: starting, killing, looking. Not here: the stages and their interpreter (fakes/stub_builds.py), which faults are tried (the tests).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from fakes.shell import Said
from fakes.stub_builds import StubProject

from interlock.contracts import io
from interlock.errors import ContractError

BUILD = ("build", "chain.toml", "--launcher", "current")
CODES = {0, 2, 3, 4, 5, 6, 130, 143}


class Project(StubProject):
    """One project folder. Every file outside `.interlock` and `out` is an input, and must stay what it was."""

    def run_behind(self, before: Sequence[object], *words: str, environ: dict[str, str] | None = None, timeout_s: float = 120) -> Said:
        """`interlock WORDS` behind the words of another command (`prlimit --fsize=1`)."""
        variables = {**os.environ, **self.environ, **(environ or {})}
        argv = [*map(str, before), *self.argv(*(words or BUILD))]
        ended = subprocess.run(argv, cwd=self.folder, env=variables, capture_output=True, text=True, check=False, timeout=timeout_s)
        return Said(ended.returncode, ended.stdout, ended.stderr)

    def plain(self) -> Said:
        """The plain command."""
        return self.run(*BUILD)

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """The plain command in the background, in a process group of its own, silent."""
        return subprocess.Popen(
            self.argv(*(words or BUILD)),
            cwd=self.folder,
            env={**os.environ, **self.environ},
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    @property
    def store(self) -> Path:
        return self.folder / ".interlock" / "store"

    def inputs(self) -> dict[str, bytes]:
        """What a person put there."""
        return {path.name: path.read_bytes() for path in self.folder.iterdir() if path.is_file()}

    def digest(self) -> str:
        """One digest over the bytes of every output."""
        found = hashlib.sha256()
        for name in io.walk(self.folder / "out"):
            found.update(name.encode() + b"\0" + hashlib.sha256((self.folder / "out" / name).read_bytes()).digest())
        return found.hexdigest()

    def wrong(self) -> list[str]:
        """What a reader may never find, whatever happened: an output or a stored object that is not what its contract says."""
        places = [*self.folder.glob("out/*"), *self.store.glob("objects/*/*")]
        return [path.name for path in places if ".partial-" not in path.name and not path.name.startswith(".") and not _whole(path)]

    def left_over(self) -> list[str]:
        """Workspaces, which a finished build may not leave."""
        return [path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*.partial-*") if path.is_dir()]

    def processes(self) -> list[int]:
        """Living processes that work for this project."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.fsencode(self.folder) in (folder / "cmdline").read_bytes() and b"pipeline.here" in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
        return found

    def ends_within(self, seconds: float) -> bool:
        """Whether no process of this project outlives its driver for longer than that."""
        until = time.monotonic() + seconds
        while self.processes():
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        return True


def _whole(directory: Path) -> bool:
    try:
        io.read_artifact(directory, io.KINDS["dataset"][1])
    except ContractError:
        return False
    return True


def kill(pid: int) -> None:
    """SIGKILL, to a process that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def told(said: Said) -> bool:
    """Whether a command ended as a command may: a documented code, and where it failed one message with a remedy and no traceback."""
    return said.code in CODES and "Traceback" not in said.err + said.out and (said.code == 0 or "hint: " in said.err)
