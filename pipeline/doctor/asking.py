"""Asking other programs, which may be missing, broken or stuck.

Here: one call that always answers, in time. Not here: what is asked.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# Below the limit of a check: a program that is stuck becomes its finding, not the check's.
LIMIT_S = 4.0


@dataclass(frozen=True)
class Answer:
    """How a program ended. `code` is None where it did not start or did not end in time; `problem` then says which."""

    code: int | None
    out: str = ""
    err: str = ""
    problem: str = ""

    @property
    def ok(self) -> bool:
        return self.code == 0

    @property
    def why(self) -> str:
        """In one line, why it is not ok: its last words, or its status."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        return self.problem or (lines[-1][:200] if lines else f"it ended with status {self.code}")


def ask(argv: Sequence[str | Path], *, limit_s: float = LIMIT_S, environ: Mapping[str, str] | None = None, cwd: Path | None = None) -> Answer:
    """Run a program to its end, or until `limit_s`; it and its children are ended then. Never raises for what the program does."""
    words = [str(word) for word in argv]
    try:
        child = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8", errors="replace",
            env=environ, cwd=cwd, start_new_session=True,
        )  # fmt: skip
    except (OSError, ValueError) as refusal:
        return Answer(None, problem=f"`{words[0]}` does not start: {getattr(refusal, 'strerror', None) or refusal}")
    try:
        out, err = child.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(OSError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        for stream in (child.stdout, child.stderr):
            if stream:
                stream.close()
        return Answer(None, problem=f"`{' '.join(words)[:80]}` gave no answer in {limit_s:g} s")
    return Answer(child.returncode, out, err)
