"""Real builds killed at random moments: nobody repairs anything, the same plain command ends with the same bytes."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.publications import forget
from reliability.projects import Project, kill

from pipeline.driver import fsck
from pipeline.driver.store import Store

pytestmark = pytest.mark.long
Score = Callable[[str, int, int], None]
RUNS = 5


def child_of(pid: int) -> int | None:
    """A stage's process, if the driver has one now; what it asks other interpreters before is none."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                if b"request.json" in Path(f"/proc/{child}/cmdline").read_bytes():
                    return int(child)
    return None


def strike(project: Project, draw: random.Random, how: str, longest_s: float) -> bool:
    """Start the plain command and kill its process group, its driver or only a stage at a random moment. False where it was through before."""
    process = project.start()
    at = time.monotonic() + draw.uniform(0, longest_s)
    while process.poll() is None and time.monotonic() < at:
        time.sleep(0.005)
    if process.poll() is not None:
        return False
    stage = child_of(process.pid) if how == "stage" else None
    if stage is not None:
        kill(stage)
    elif how == "group":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        kill(process.pid)
    process.wait(60)
    return True


@pytest.mark.parametrize("run", range(RUNS))
def test_random_kills_need_no_hand_and_change_no_byte(
    project: Project, run: int, extent: bool, score: Score, memory: Path, stub_python: Path
) -> None:
    """Each project is struck until it has come through, then the next one begins: early and late moments are met alike."""
    wanted = (1000 if extent else 200) // RUNS
    draw = random.Random(run)
    project.build()
    undisturbed = project.digest()

    def fresh(name: str) -> Project:
        made = Project(memory / name, stub_python)
        made.write()
        return made.asked_before()

    started = time.monotonic()
    fresh("undisturbed-again").build()
    longest_s = time.monotonic() - started
    struck, bad = 0, []
    while struck < wanted:
        one = fresh(f"project-{struck}")
        before = one.inputs()
        while struck < wanted and strike(one, draw, how := draw.choice(("group", "group", "driver", "stage")), longest_s):
            struck += 1
            if not one.ends_within(5) or one.wrong():
                bad.append((struck, how, one.wrong(), one.processes()))
        said = one.plain()
        faults = fsck.check(Store(one.store)) if said.code == 0 else []
        if said.code or one.digest() != undisturbed or one.left_over() or one.wrong() or one.inputs() != before or faults:
            bad.append((struck, said.err, one.left_over(), one.wrong(), faults))
        forget(one.folder)
    score("kills", struck - len(bad), struck)
    assert not bad


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_stage_too_and_says_how_to_go_on(project: Project, number: int, code: int, score: Score) -> None:
    """In the middle of a long stage: its process ends, nothing of it stays, the plain command goes on."""
    project.write(sleep_s=20)
    process = subprocess.Popen(
        project.argv("build", "chain.toml", "--launcher", "current"),
        cwd=project.folder,
        env={**os.environ, **project.environ},
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 30
    while child_of(process.pid) is None and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.5)
    process.send_signal(number)
    said = process.communicate(timeout=30)[1]
    project.write()
    fine = process.returncode == code and project.ends_within(5) and "Traceback" not in said and project.left_over() == []
    score("kills", int(fine), 1)
    assert fine, (process.returncode, said, project.processes(), project.left_over())
    project.build()


def test_a_killed_stage_is_named_with_its_signal(project: Project) -> None:
    project.write(sleep_s=20)
    process = subprocess.Popen(
        project.argv("build", "chain.toml", "--launcher", "current"),
        cwd=project.folder,
        env={**os.environ, **project.environ},
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 30
    while (stage := child_of(process.pid)) is None and time.monotonic() < until:
        time.sleep(0.02)
    assert stage is not None
    kill(stage)
    said = process.communicate(timeout=30)[1]
    assert process.returncode == 5 and "words" in said and "SIGKILL" in said and "hint: " in said
    assert project.left_over() == []
