"""What every launcher must do, whatever stands between the driver and a stage: tried on each with the same small stages, for real."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes.launchers import BENCHES, Bench, chain, report

from interlock.environments import platform_name
from pipeline.driver import records

pytestmark = pytest.mark.e2e

FATES = {
    "refuse": "the witness is not good enough",
    "usage": "the witness was asked wrongly",
    "bug": "stage `witness` of interlock-stub failed: KeyError",
    "exit": "stage `witness` ended with code 7",
    "killed": "stage `witness` was killed by SIGKILL",
    "tell": "gate `doubt` refuses the dataset of stage `witness`",
}
CODES = {"refuse": 6, "usage": 2, "bug": 5, "exit": 5, "killed": 5, "tell": 6}
GATE = '[[gates.extra]]\ngate = "doubt"\n'


@pytest.fixture(scope="module", params=[*BENCHES])
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with contextlib.contextmanager(BENCHES[request.param])(tmp_path_factory.mktemp(request.param)) as made:
        yield made


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The digest of each step of the chain, as the driver's own interpreter makes it."""
    with contextlib.contextmanager(BENCHES["current"])(tmp_path_factory.mktemp("expected")) as plain:
        yield digests(plain, plain.folder("chain", chain()))


def digests(bench: Bench, folder: Path) -> dict[str, str]:
    said = bench.build(folder)
    assert said.code == 0, said.err
    return {step["step"]: step["digest"] for step in report(said)["steps"]}


def witnesses(*fates: str, more: str = "") -> str:
    """A recipe with a step for each fate, of its name, none resting on another."""
    steps = "".join(f'[[stages]]\nstage = "witness"\nname = "{fate}"\nparams = {{ fate = "{fate}"{more} }}\n' for fate in fates)
    return f'output = "out"\noutputs = {json.dumps(fates)}\n{steps}'


def eventually(holds: Callable[[], bool], within_s: float = 20.0) -> bool:
    end = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def alive(token: str, words: bytes = b"") -> list[int]:
    """Processes of this machine, containers included, that were started with that token in their environment, with `words` in their command."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"INTERLOCK_TOKEN={token}".encode() in (process / "environ").read_bytes() and words in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


def test_what_a_stage_says_of_its_end_passes_through_and_an_environment_is_made_once(bench: Bench) -> None:
    """From an environment that is not there, with stages that all want it at once."""
    folder = bench.folder("fates", witnesses(*FATES) + GATE)
    said = bench.build(folder, "--jobs", "4", "--keep-going")
    assert bench.made(said) == 1, said.err
    (state,) = (bench.base / "home" / "builds").glob("recipe-*.json")
    steps = records.load(state)["steps"]
    assert {name: step["error"]["problem"][: len(FATES[name])] for name, step in steps.items()} == FATES
    assert {name: step["error"]["exit_code"] for name, step in steps.items()} == CODES
    assert {name for name, step in steps.items() if step["state"] == "rejected"} == {"refuse", "tell"}
    assert steps["refuse"]["error"]["measured"] == "1" and said.code == 6, said.err
    kept = folder / "store" / "rejected" / steps["tell"]["key"]
    assert steps["tell"]["error"]["remedy"].endswith(f"are in `{kept}`")
    assert {path.name for path in kept.iterdir()} == {"dataset_contract.json", "train.jsonl", "test.jsonl", "evidence.json"}
    assert bench.left() == [] and "Traceback" not in said.err


def test_the_same_chain_gives_the_same_artifacts_and_says_how_it_was_made(bench: Bench, expected: dict[str, str]) -> None:
    folder = bench.folder("chain", chain())
    assert digests(bench, folder) == expected
    found = json.loads((folder / "out" / "loudest" / "dataset_contract.json").read_bytes())["created_by"]["environment"]
    env = bench.env
    assert (found["launcher"], found["name"], found["platform"]) == (bench.launcher, "train", platform_name())
    assert (found["python"], found["lock_digest"]) == (platform.python_version(), env.lock_digest)
    assert found.get("image") == bench.image(env)
    assert all(path.stat().st_uid == os.getuid() for path in folder.rglob("*")) and bench.left() == []

    again = bench.build(folder)
    assert {step["state"] for step in report(again)["steps"]} == {"kept"} and bench.made(again) <= 1


def test_a_stage_is_isolated_and_sees_of_the_environment_what_it_may(bench: Bench) -> None:
    folder = bench.folder("tell", witnesses("tell", more=', file = "given.txt"'))
    (folder / "given.txt").write_text("given")
    foreign, temporary = folder / "foreign", folder / "temporary"
    for place in (folder, foreign, temporary):
        place.mkdir(exist_ok=True)
        (place / "json.py").write_text("raise SystemExit('a module of another folder was imported')")
    more = {
        "PYTHONPATH": str(foreign), "PYTHONUSERBASE": str(foreign), "PYTHONSTARTUP": str(foreign / "json.py"), "FOREIGN": "seen",
        "INTERLOCK_SEEN": "seen", "TMPDIR": str(temporary), "OMP_NUM_THREADS": "3",
    }  # fmt: skip
    said = bench.build(folder, more=more)
    assert said.code == 0, said.err
    found = json.loads((folder / "out" / "tell" / "train.jsonl").read_bytes())
    environment = found["environment"]
    assert found["isolated"] == 1 and not {"", str(folder), str(foreign), found["here"]} & set(found["path"])
    assert (environment["INTERLOCK_SEEN"], environment["OMP_NUM_THREADS"], environment["OMP_WAIT_POLICY"]) == ("seen", "3", "PASSIVE")
    assert "FOREIGN" not in environment and not [name for name in environment if name.startswith(("PYTHON", "SSH_", "VIRTUAL_ENV"))]
    # A container has a /tmp of its own, a stage on another machine a folder that has gone with it.
    assert environment.get("TMPDIR") in (str(temporary), None) or not Path(environment["TMPDIR"]).exists()
    assert found["input"] == "" and found["file"] == "given", found


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found by their environment in /proc")
def test_no_stage_and_nothing_that_it_started_outlives_its_driver(bench: Bench) -> None:
    """By Ctrl-C, by a polite signal, and killed: the driver then can do nothing more."""
    ends = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}
    drivers = {}
    for number in ends:
        folder = bench.folder(number.name, witnesses("linger"))
        around = bench.around(folder, {"INTERLOCK_TOKEN": f"{bench.launcher}-{number.name}"})
        quiet = subprocess.DEVNULL
        drivers[number] = subprocess.Popen(bench.argv(), cwd=folder, env=around, stdin=quiet, stdout=quiet, stderr=quiet)
    for number, process in drivers.items():
        token = f"{bench.launcher}-{number.name}"
        assert eventually(lambda token=token: len(alive(token, b"time.sleep(300)")) == 1), f"{number.name}: the stage did not start"
        children = [pid for pid in alive(token) if parent(pid) == process.pid]
        assert children and all(os.getpgid(pid) == pid for pid in children), "a stage has no process group of its own"
        process.send_signal(number)
    for number, process in drivers.items():
        assert process.wait(15) == ends[number]
        assert eventually(lambda number=number: alive(f"{bench.launcher}-{number.name}") == [], 5), f"{number.name}: something is left"
    assert eventually(lambda: bench.left() == []), bench.left()


def parent(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return -1


def test_without_its_tool_it_refuses_and_says_what_to_do(bench: Bench) -> None:
    """Last: it takes the environment apart."""
    if bench.launcher == "current":
        bench.build(bench.folder("refused", chain().replace('"words"', '"nothing"', 1))).refused(2, "there is no stage `nothing`")
        return
    said = bench.build(bench.folder("refused", chain()), more=bench.missing())
    said.refused(4, *bench.refusal)
    assert report(said)["exit_code"] == 4
