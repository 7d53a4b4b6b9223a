"""A command of somebody else's, run once: no shell, limited in time, memory and output, killed with everything it started.

Here: the mechanism. Not here: what its end means (orchestration/judges/command.py), functions of this project over hostile input (sandbox.py).
The command is trusted, what it is given need not be: this keeps a check from running for ever or filling the disk, it is no jail.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from runtime.engine.sandbox import Limits, import_path

_BOOT = (
    "import json, os, sys; sys.path[:] = json.loads(sys.argv[1]); from runtime.engine.sandbox import take_limits; "
    "take_limits(*map(int, sys.argv[2:5])); os.execvp(sys.argv[5], sys.argv[5:])"
)
_KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "VIRTUAL_ENV", "SYSTEMROOT")


@dataclass(frozen=True)
class Ran:
    """code: the exit status, minus the signal that ended it, None where its time was over. output: what it said, on standard output and on standard
    error, the last `output_bytes` of each at most."""

    code: int | None
    output: str
    errors: str


def run(argv: Sequence[str], stdin: bytes, folder: Path, limits: Limits) -> Ran:
    """`argv` in `folder`, which is also its HOME. Memory is each process's own. A command that cannot be executed ends with 1 and says why."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        given.write(stdin)
        given.seek(0)
        words = [sys.executable, "-I", "-c", _BOOT, json.dumps(import_path())]
        words += [*(str(number) for number in (limits.memory_bytes, limits.output_bytes, limits.cpu_s)), *argv]
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environment = {**kept, "HOME": str(folder), "TMPDIR": str(folder)}
        child = subprocess.Popen(words, cwd=folder, stdin=given, stdout=output, stderr=errors, env=environment, start_new_session=True)
        code: int | None = None
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = child.wait(timeout=limits.wall_s)
        finally:  # also for an interrupt: neither the command nor what it started outlives its caller
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        return Ran(code, _end(output, limits.output_bytes), _end(errors, limits.output_bytes))


def _end(file: IO[bytes], most: int) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - most))
    return file.read().decode("utf-8", "replace")
