"""Judge `command`: a program that reads the answer and says by its exit code whether it holds: a test run, a compiler, a script.

Here: what it is given and what its end means. Not here: running it within limits (engine/commands.py).
Exit 0 is the score 1, any other 0. A last line of standard output that is a JSON object says more, and then counts whatever the exit code is:
`{"score": 0.5, "feedback": "…", "failing": 2}`.
"""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from interlock.contracts.base import Frozen
from interlock.errors import UsageError
from runtime.engine.commands import Ran, run
from runtime.engine.sandbox import Limits
from runtime.orchestration.judges.verdict import Judge, Verdict

_TOLD = 600  # characters of a program's own words that the next prompt gets
_OUTPUT = 1 << 20


class Command(Frozen):
    """argv: the program and its words, without a shell; `{answer}` and `{request}` in a word are the names of files. The answer is its standard input
    too. It runs in an empty folder of its own. memory_mb: of each process, address space."""

    kind: Literal["command"]
    argv: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
    time_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    memory_mb: Annotated[int, Field(ge=16, le=1 << 20)] = 2048


def command(asked: Command, folder: Path) -> Judge:
    """folder: of the judge file, where a program with a relative path is looked for. Raises UsageError where there is no such program."""
    program = _program(asked.argv[0], folder)
    limits = Limits(cpu_s=max(1, round(asked.time_s)), wall_s=asked.time_s, memory_bytes=asked.memory_mb << 20, output_bytes=_OUTPUT)

    def judge(request: str, answer: str) -> Verdict:
        with tempfile.TemporaryDirectory(prefix="judge-") as made:
            own = Path(made)
            files = {"{answer}": own / "answer.txt", "{request}": own / "request.txt"}
            files["{answer}"].write_text(answer, encoding="utf-8", errors="replace", newline="")
            files["{request}"].write_text(request, encoding="utf-8", errors="replace", newline="")
            words = [_filled(word, files) for word in asked.argv[1:]]
            return _verdict(run([program, *words], answer.encode(errors="replace"), own, limits), asked)

    return judge


def _program(name: str, folder: Path) -> str:
    found = shutil.which(str(folder / name) if "/" in name else name)
    if found is None:
        raise UsageError(f"there is no program `{name}` for the judge", remedy="install it, or name it by its path, relative to the judge file")
    return str(Path(found).absolute())


def _filled(word: str, files: dict[str, Path]) -> str:
    for mark, file in files.items():
        word = word.replace(mark, str(file))
    return word


def _verdict(ran: Ran, asked: Command) -> Verdict:
    record = {"exit": ran.code, "output": ran.output[-_TOLD:], "errors": ran.errors[-_TOLD:]}
    if ran.code is None or ran.code == -signal.SIGXCPU:
        return Verdict(0.0, f"Checking it took more than {asked.time_s:g} s.", 1, record)
    said = _said(ran.output) if ran.code >= 0 else None  # a signal ended it before it could mean what it said
    if said is not None:
        return Verdict(said[0], said[1], said[2], record)
    words = " ".join((ran.errors.strip() or ran.output.strip())[-_TOLD:].split())
    return Verdict(1.0, "", 0, record) if ran.code == 0 else Verdict(0.0, f"A check failed: {words or f'exit {ran.code}'}", 1, record)


def _said(output: str) -> tuple[float, str, int] | None:
    """Score, feedback and failing checks of the last line; None where it is not such an object."""
    lines = output.strip().splitlines()
    try:
        document: Any = json.loads(lines[-1]) if lines else None
        score = float(document["score"])
        failing = int(document.get("failing", 0 if score == 1 else 1))
        feedback = str(document.get("feedback", ""))[:_TOLD]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        return None
    return (score, feedback, failing) if 0 <= score <= 1 and failing >= 0 else None
