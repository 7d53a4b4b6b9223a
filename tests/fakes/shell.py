"""The command line as a person runs it: a real process, its exit code and both its streams."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from interlock.environments import ROOT


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    code: int
    out: str
    err: str

    def refused(self, code: int, *texts: str) -> None:
        """The exit code of its class, one message with these texts and a hint, and no traceback."""
        assert self.code == code, self
        assert "Traceback" not in self.err, self.err
        assert "hint: " in self.err, self.err
        for text in texts:
            assert text in self.err, (text, self.err)


def interlock(*words: object, stdin: str | None = None, cwd: Path | None = None, environ: dict[str, str] | None = None) -> Said:
    """`interlock WORDS` with the interpreter that runs the tests."""
    return run([sys.executable, "-m", "pipeline.cli", *map(str, words)], stdin, cwd, environ)


def module(name: str, *words: object) -> Said:
    """`python -m NAME WORDS`."""
    return run([sys.executable, "-m", name, *map(str, words)])


def run(argv: Sequence[str], stdin: str | None = None, cwd: Path | None = None, environ: dict[str, str] | None = None) -> Said:
    child = subprocess.run(
        argv, input=stdin or "", capture_output=True, text=True, cwd=cwd or ROOT, env={**os.environ, **(environ or {})}, check=False
    )
    return Said(child.returncode, child.stdout, child.stderr)
