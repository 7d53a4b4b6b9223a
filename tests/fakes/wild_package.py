"""A package of stages that behave as no stage should, though each makes a dataset: installed beside the stub stages by a path file."""

from __future__ import annotations

from pathlib import Path

STAGES = '''
"""Stages that leave processes, talk without end, do not listen, or never make the same twice."""

import os
import signal
import subprocess
import time

from interlock_stub import stages
from pipeline.driver import stage


def daemon(params, work, voice):
    subprocess.Popen(["sleep", "977"])
    return stages.words(params, work, voice)


def runaway(params, work, voice):
    subprocess.Popen(["sleep", "5"], start_new_session=True)
    return stages.words(params, work, voice)


def loud(params, work, voice):
    for fd in (1, 2):
        os.write(fd, b"\\xff\\xfe\\x1b]0;title\\x07" + b"y" * (3 << 20) + b"\\n")
    for _ in range(20000):
        os.write(2, b"and on and on\\n")
    return stages.words(params, work, voice)


def deaf(params, work, voice):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("deaf now", flush=True)
    time.sleep(params.sleep_s)
    return stages.words(params, work, voice)


def noise(params, work, voice):
    return stages.words(params.model_copy(update={"text": os.urandom(8).hex()}), work, voice)


DAEMON, RUNAWAY, LOUD, DEAF, NOISE = (
    stage.Stage(work.__name__, "train", "dataset", stages.Params, work, __name__) for work in (daemon, runaway, loud, deaf, noise)
)
'''
NAMES = ("daemon", "runaway", "loud", "deaf", "noise")


def install(python: Path, folder: Path) -> None:
    """Make the stages available to a virtual environment's interpreter."""
    (folder / "wild.py").parent.mkdir(parents=True)
    (folder / "wild.py").write_text(STAGES)
    told = folder / "wild-1.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: wild\nVersion: 1.0\n")
    (told / "RECORD").write_text("wild.py,,\nwild-1.0.dist-info/METADATA,,\nwild-1.0.dist-info/RECORD,,\nwild-1.0.dist-info/entry_points.txt,,\n")
    (told / "entry_points.txt").write_text("[interlock.stages]\n" + "".join(f"{name} = wild:{name.upper()}\n" for name in NAMES))
    site = next((python.parent.parent / "lib").glob("python*/site-packages"))
    (site / "wild.pth").write_text(f"{folder}\n")
