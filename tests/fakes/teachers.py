"""A process with a teacher in it, and datasets taught by stage `teach`, for tests."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fakes import teacher_server

from interlock.contracts.checkpoint import CheckpointContract
from interlock.contracts.dataset import DatasetContract
from interlock.voice import SilentVoice
from pipeline.driver import stage
from pipeline.stages import import_, teach


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """The address of a fresh server."""
    command = [sys.executable, "-I", str(Path(teacher_server.__file__))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.stdin.close()


def log(url: str, model: str) -> list[dict[str, Any]]:
    """What a model was asked so far."""
    with urllib.request.urlopen(url) as reply:
        return [one for one in json.load(reply) if one["body"]["model"] == model]


def taught(out: Path, dataset: Path, teacher: str, **others: Any) -> DatasetContract:
    """Stage `teach` run here."""
    params = teach.Params(dataset=dataset, out=out, teacher=teacher, **others)
    contract = stage.run(teach.STAGE, params, SilentVoice(), source="1" * 64).contract
    assert isinstance(contract, DatasetContract)
    return contract


def small_teacher(out: Path, seed: int = 0) -> CheckpointContract:
    """A checkpoint with random weights and a byte-level tokenizer."""
    contract = stage.run(import_.STAGE, import_.Params(source=f"random:{seed}", out=out), SilentVoice()).contract
    assert isinstance(contract, CheckpointContract)
    return contract
