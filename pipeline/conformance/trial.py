"""One run of a stage in a process of its own, under a fault or watched, and how it ended.

Here: the child's surroundings, the watch, its words back. Not here: what a run has to show (__init__.py).
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from interlock import fs
from interlock.errors import InterlockError
from interlock.voice import SilentVoice
from pipeline.conformance.faults import Counting, Failing, Killing

# What takes a second to import.
LIBRARIES = ("coremltools", "numpy", "safetensors", "tokenizers", "torch", "transformers")


@dataclass(frozen=True)
class Fault:
    """What happens at the mutating call number `point`: `kill`, or an errno, from then on where it is `lasting`."""

    kind: str | int
    point: int
    lasting: bool = False

    def file_system(self) -> Counting:
        return Killing(self.point) if isinstance(self.kind, str) else Failing(self.point, self.kind, lasting=self.lasting)


@dataclass(frozen=True)
class Trial:
    """What a child runs: a stage with its params in JSON, in the room `folder`. `watched` tells of every write outside the output's folder; `loaded`
    are libraries that its parent may have imported for all of them."""

    module: str
    attribute: str
    params: dict[str, Any]
    folder: Path
    fault: Fault | None = None
    umask: int = 0o022
    environ: dict[str, str] = field(default_factory=dict)
    watched: bool = False
    loaded: tuple[str, ...] = ()
    name: str = field(default_factory=lambda: secrets.token_hex(4))

    @property
    def said(self) -> Path:
        """Where the child writes how it ended; none comes from one that was killed."""
        return self.folder / f"said-{self.name}.json"


@dataclass(frozen=True)
class Ended:
    """How a trial ended: the `digest` of what was published; or the error, or what was no error of ours (`crash`)."""

    digest: str | None = None
    calls: int = 0
    wall_s: float = 0.0
    outside: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    error: str | None = None
    exit_code: int | None = None
    crash: str | None = None

    @property
    def told(self) -> str:
        return self.crash or self.error or f"it published {(self.digest or '')[:12]}"


def in_child(trial: Trial, patience_s: float) -> Ended:
    """Run in a process forked from one that has the stage's module and libraries loaded: milliseconds, and no thread of the caller's in it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pipeline.conformance.trial", trial.module, *trial.loaded])
    child = context.Process(target=run, args=(trial,))
    child.start()
    child.join(patience_s)
    if child.exitcode is None:
        child.kill()
        child.join()
        return Ended(crash=f"it did not end within {patience_s:.0f} s")
    return _said(trial, child.exitcode)


def in_fresh_interpreter(trial: Trial, patience_s: float) -> Ended:
    """Run in an interpreter started for it: another hash seed, and the environment variables from its first line on."""
    document = asdict(trial) | {"folder": str(trial.folder)}
    command = [sys.executable, "-I", "-m", "pipeline.conformance.trial", json.dumps(document)]
    try:
        ended = subprocess.run(command, env=os.environ | trial.environ, capture_output=True, timeout=patience_s, check=False)
    except subprocess.TimeoutExpired:
        return Ended(crash=f"it did not end within {patience_s:.0f} s")
    return _said(trial, ended.returncode)


def _said(trial: Trial, code: int) -> Ended:
    try:
        document = json.loads(trial.said.read_bytes())
    except (OSError, ValueError):
        return Ended(crash=f"its process ended with {code} and said nothing")
    return Ended(**document | {name: tuple(document[name]) for name in ("outside", "libraries")})


def run(trial: Trial) -> None:
    """In the child: surroundings, stage, words back."""
    from pipeline.driver import stage

    os.environ.update({"HOME": str(trial.folder / "home"), "TMPDIR": str(trial.folder / "tmp"), **trial.environ})
    time.tzset()
    os.umask(trial.umask)
    os.chdir(trial.folder / "here")
    sys.dont_write_bytecode = True
    outside: list[str] = []
    files = trial.fault.file_system() if trial.fault else Counting()
    started = time.monotonic()
    said: dict[str, Any]
    try:
        found: Any = importlib.import_module(trial.module)
        for part in trial.attribute.split("."):
            found = getattr(found, part)
        params = found.params.model_validate_json(json.dumps(trial.params))
        if trial.watched:
            sys.addaudithook(_watch(trial, outside))
        report = stage.run(found, params, SilentVoice(), files=files)
        said = {"digest": report.contract.digest}
    except InterlockError as error:
        said = {"error": f"{error.title}: {error.problem}", "exit_code": error.exit_code}
    except BaseException as error:
        said = {"crash": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
    said |= {"calls": files.calls, "wall_s": time.monotonic() - started, "outside": sorted(set(outside))[:8]}
    said["libraries"] = sorted(name for name in LIBRARIES if name in sys.modules)
    fs.save_file(trial.said, json.dumps(said).encode())


# Audit events that change a file system, and the positions of their paths (docs.python.org/3/library/audit_events.html).
EVENTS = {"os.mkdir": (0,), "os.remove": (0,), "os.rmdir": (0,), "os.rename": (0, 1), "os.link": (1,), "os.symlink": (1,), "os.truncate": (0,)}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def _watch(trial: Trial, outside: list[str]) -> Callable[[str, tuple[Any, ...]], None]:
    """A hook that notes every path that is written and is neither the output nor in the room's folder for temporary files."""
    allowed = (*(str(trial.folder / name) for name in ("out", "tmp", "rejected", "said-")), "/dev/", "/proc/")

    def watch(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            paths = args[:1] if isinstance(args[2], int) and args[2] & WRITING else ()
        else:
            paths = tuple(args[position] for position in EVENTS.get(event, ()))
        full = [str(Path(os.fsdecode(path)).absolute()) for path in paths if isinstance(path, str | bytes | os.PathLike)]
        outside.extend(path for path in full if not path.startswith(allowed))

    return watch


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    fault = Fault(**given.pop("fault")) if given["fault"] else None
    run(Trial(**given | {"folder": Path(given["folder"]), "fault": fault}))
