"""Many requests: in order, whole or not at all, and after a kill only what is missing is answered."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.environments import ROOT
from interlock.errors import StageFailed
from interlock.journal import opened
from interlock.voice import SilentVoice
from runtime.infer.batch import journal_of, run
from runtime.infer.requests import Request

pytestmark = pytest.mark.train
REQUESTS = [Request(f"id-{number}", ({"role": "user", "content": f"prompt {number % 3}"},)) for number in range(7)]


class Answering:
    """Says who was asked, and is interrupted at the n-th of them."""

    def __init__(self, interrupted_at: int | None = None) -> None:
        self.asked: list[str] = []
        self._at = interrupted_at

    def __call__(self, request: Request) -> dict[str, Any]:
        if len(self.asked) == self._at:
            raise KeyboardInterrupt
        self.asked.append(request.id)
        return {"id": request.id, "text": request.messages[0]["content"].upper()}


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 4), max_size=4))
def test_whenever_it_is_interrupted_each_is_answered_once(tmp_path_factory: pytest.TempPathFactory, kills: list[int]) -> None:
    out, asked = tmp_path_factory.mktemp("batch") / "out.jsonl", []
    for kill in kills:
        one = Answering(kill)
        try:
            run(REQUESTS, out, {}, one, SilentVoice())
            asked += one.asked
            break
        except KeyboardInterrupt:
            asked += one.asked
            assert not out.exists()
    else:
        last = Answering()
        run(REQUESTS, out, {}, last, SilentVoice())
        asked += last.asked
    assert asked == [request.id for request in REQUESTS]
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == asked and [*out.parent.iterdir()] == [out]


def test_what_was_asked_otherwise_is_not_taken_over(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run(REQUESTS, out, {"seed": 0}, Answering(3), SilentVoice())
    other = Answering()
    run(REQUESTS, out, {"seed": 1}, other, SilentVoice())
    assert len(other.asked) == 7


def test_two_at_once_do_not_write_one_file(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with opened(journal_of(out)), pytest.raises(StageFailed, match="another process writes"):
        run(REQUESTS, out, {}, Answering(), SilentVoice())


SLOW = """
import sys, time
from pathlib import Path
from interlock.voice import SilentVoice
from runtime.infer.batch import run
from runtime.infer.requests import Request

def answer(request):
    with open(sys.argv[2], "a") as log:
        log.write(request.id + "\\n")
    time.sleep(0.01)
    return {"id": request.id, "at": time.time()}

run([Request(str(n), ({"role": "user", "content": "x"},)) for n in range(60)], Path(sys.argv[1]), {}, answer, SilentVoice())
"""


def test_a_killed_batch_goes_on_where_it_was(tmp_path: Path) -> None:
    """A real process, killed without a word while it answers."""
    out, log = tmp_path / "out.jsonl", tmp_path / "log"
    argv = [sys.executable, "-c", SLOW, str(out), str(log)]
    with subprocess.Popen(argv, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}) as process:
        deadline = time.monotonic() + 60
        while kept(out) < 5 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    before, first = kept(out), log.read_text().split()
    assert 5 <= before < 60 and not out.exists()
    finished = [json.loads(line.split(b" ", 1)[1])["result"] for line in journal_of(out).read_bytes().splitlines()[:before]]
    subprocess.run(argv, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert rows[:before] == finished and [row["id"] for row in rows] == [str(number) for number in range(60)]
    # the one that was being answered when the process was killed may have been asked twice, no other
    assert log.read_text().split()[len(first) :] == [str(number) for number in range(before, 60)] and len(first) - before in (0, 1)


def kept(out: Path) -> int:
    """Whole lines of the journal."""
    return journal_of(out).read_bytes().count(b"\n") if journal_of(out).exists() else 0
