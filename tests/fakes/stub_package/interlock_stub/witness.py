"""Stage `witness`: tells where it runs, or ends in the way that its parameter names. Makes a dataset of what it found. Gate `doubt` refuses that."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from interlock.contracts import dataset
from interlock.contracts.base import Finding, Frozen
from interlock.errors import GateFailed, UsageError
from interlock.fs import Workspace
from interlock.voice import Voice
from pipeline.driver import gate, stage

LINGER = "import time; time.sleep(300)"


class Params(stage.Params):
    """`fate` is one of tell, refuse, usage, bug, exit, killed, linger; what stands in `file` is told."""

    fate: str = "tell"
    file: Path | None = None


def _found(params: Params) -> dict[str, object]:
    with tempfile.TemporaryFile():  # the place for temporary files is one
        pass
    return {
        "isolated": sys.flags.isolated,
        "path": sys.path,
        "environment": dict(os.environ),
        "here": str(Path.cwd()),
        "input": os.read(0, 1).decode(),
        "file": params.file.read_text() if params.file else None,
    }


def work(params: Params, work: Workspace, voice: Voice) -> stage.Outcome:
    if params.fate == "refuse":
        raise GateFailed("the witness is not good enough", measured="1", threshold="2", remedy="find a better one")
    if params.fate == "usage":
        raise UsageError("the witness was asked wrongly", remedy="ask again")
    if params.fate == "bug":
        raise KeyError("a bug of the witness")
    if params.fate == "exit":
        os._exit(7)
    if params.fate == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if params.fate == "linger":
        subprocess.Popen([sys.executable, "-I", "-c", LINGER])
        time.sleep(300)
    rows = {"train": json.dumps(_found(params)), "test": json.dumps({})}
    for name, row in rows.items():
        work.write(f"{name}.jsonl", f"{row}\n".encode())
    return stage.Outcome(
        {
            "task": "stub",
            "generator": dataset.Generator(name="interlock_stub", seed=0, parameters={}),
            "origin": None,
            "splits": {name: dataset.Split(files=(f"{name}.jsonl",), rows=1) for name in rows},
            "tokenizer": None,
            "licence": "MIT",
        }
    )


def doubt(subject: gate.Subject, params: Frozen, voice: Voice) -> list[Finding]:
    return [Finding(text="nobody believes it", passed=False, value=3.0, threshold=2.0)]


WITNESS = stage.Stage("witness", "train", "dataset", Params, work, __name__, reads=("file",))
DOUBT = gate.Gate("doubt", "dataset", Frozen, doubt)
