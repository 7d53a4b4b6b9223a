"""Many builders, a cleaner and odd clocks at one store: work is done once, nothing that lives is removed, time decides no hit."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes import forks
from fakes.store_work import make
from reliability.projects import BUILD, Project

from interlock.contracts import checkpoint, io
from pipeline.driver import fsck, gc
from pipeline.driver.outputs import Outputs
from pipeline.driver.store import Lease, Store

Score = Callable[[str, int, int], None]


def test_builders_of_one_key_do_the_work_once(memory: Path, stub_python: Path, extent: bool, score: Score) -> None:
    """Each in a folder of its own, all with one store, all at once: every step is made by exactly one of them, and all end with the same bytes."""
    builders = 32 if extent else 6
    store = str(memory / "store")
    projects = [Project(memory / f"project-{n}", stub_python) for n in range(builders)]
    started = []
    for project in projects:
        project.write(sleep_s=0.5)
        environ = {**os.environ, **project.environ, "INTERLOCK_STORE": store}
        argv = project.argv(*BUILD, "--json")
        started.append(subprocess.Popen(argv, cwd=project.folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    said = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0] * builders, [err for _, err in said]
    made = [step["step"] for out, _ in said for step in json.loads(out)["steps"] if step["state"] == "made"]
    fine = sorted(made) == ["louder", "loudest", "words"] and len({project.digest() for project in projects}) == 1
    score("faults", int(fine), 1)
    assert fine, made


def _builder(root: Path, number: int, until: Path) -> None:
    """Make, claim and read artifacts until told to stop; whatever was claimed is there and whole."""
    store = Store(root)
    n = 0
    while not until.exists():
        n += 1
        with Lease(store) as lease:
            # A hit may be cleaned away until it is claimed, and is then made again; claimed, it stays.
            digest = make(store, (number + n) % 5, lease)
            path = lease.hold(digest) or store.find(make(store, (number + n) % 5, lease))
            assert path is not None
            for _ in range(3):
                assert io.read_artifact(path, checkpoint.CheckpointContract).digest == digest
        (until.parent / f"rounds-{number}").write_text(str(n))


def test_a_cleaner_takes_nothing_from_living_builders(memory: Path, extent: bool, score: Score) -> None:
    """Full cleanings of everything that nobody holds, one after the other, against builders that hold what they use for milliseconds."""
    cycles, builders = (1000, 8) if extent else (60, 3)
    store = Store(memory / "store")
    store.prepare()
    outputs = Outputs(memory / "home", store)
    until = memory / "stop"
    workers = [forks.CONTEXT.Process(target=_builder, args=(store.root, n, until)) for n in range(builders)]
    for worker in workers:
        worker.start()
    while len(list(memory.glob("rounds-*"))) < builders and all(worker.is_alive() for worker in workers):
        time.sleep(0.01)
    taken = 0
    try:
        for _ in range(cycles):
            taken += len(gc.collect(store, outputs, keep_s=-1).objects)
    finally:  # builders without an end would outlive their folder
        until.touch()
        for worker in workers:
            worker.join(60)
    rounds = [int(file.read_text()) for file in memory.glob("rounds-*")]
    fine = [worker.exitcode for worker in workers] == [0] * builders and taken > 0 and fsck.check(store) == []
    score("faults", cycles if fine else 0, cycles)
    assert fine, ([worker.exitcode for worker in workers], taken, rounds)


@pytest.mark.parametrize("when", ["1970-01-02", "2038-01-19 03:14:07", "2100-01-01"])
def test_a_wrong_clock_decides_nothing(when: str, project: Project, score: Score) -> None:
    """Files that seem to come from another century are hits as before, and a change is seen although its time says nothing."""
    project.build()
    stamp = time.mktime(time.strptime(when.split()[0], "%Y-%m-%d"))
    for path in project.folder.rglob("*"):
        if path.is_file():
            os.utime(path, (stamp, stamp))
    kept = project.build()
    states = {step["state"] for step in kept["steps"]}
    same = project.folder / "out" / "loudest" / "train.jsonl"
    data = same.read_bytes()
    same.write_bytes(data[:-3] + b"?" + data[-2:])
    os.utime(same, (stamp, stamp))
    mended = project.plain()
    fine = states == {"kept"} and mended.code == 0 and same.read_bytes() == data
    score("faults", int(fine), 1)
    assert fine, (states, mended)


def test_a_stopped_builder_keeps_its_key(project: Project, score: Score) -> None:
    """Another waits for it and says for whom; once it goes on, the work has been done once."""
    project.write(sleep_s=1.5)
    argv = project.argv(*BUILD, "--json")
    environ = {**os.environ, **project.environ}
    first = subprocess.Popen(argv, cwd=project.folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    until = time.monotonic() + 30
    while not list(project.store.glob("work/*.partial-*")) and time.monotonic() < until:
        time.sleep(0.02)
    first.send_signal(19)  # SIGSTOP
    second = subprocess.Popen(argv, cwd=project.folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(5)
    assert second.poll() is None
    first.send_signal(18)  # SIGCONT
    made = json.loads(first.communicate(timeout=60)[0])
    out, said = second.communicate(timeout=60)
    states = [step["state"] for step in (*made["steps"], *json.loads(out)["steps"])]
    fine = states.count("made") == 3 and f"waiting for process {first.pid}" in said
    score("faults", int(fine), 1)
    assert fine, (states, said)
