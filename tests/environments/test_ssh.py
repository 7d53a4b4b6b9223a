"""Launcher `ssh` behind a real sshd: which clone it refuses, what it sends, and what a connection that breaks leaves."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import shutil
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes.launchers import Bench, chain, report, ssh
from fakes.shell import Said, interlock, run

from interlock.errors import StageFailed
from pipeline.launchers import ssh_frames
from pipeline.launchers.ssh_connection import Place, refused
from pipeline.launchers.ssh_frames import Channel, Lost, unpack

pytestmark = pytest.mark.e2e

SLOW = 'output = "out"\noutputs = ["words"]\n[[stages]]\nstage = "words"\nparams = { text = "slow", sleep_s = 60.0 }\n'


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with contextlib.contextmanager(ssh)(tmp_path_factory.mktemp("ssh")) as made:
        yield made


@pytest.fixture
def folder(bench: Bench, tmp_path: Path) -> Path:
    return bench.folder(tmp_path.name, chain())


def clone(bench: Bench) -> Path:
    return Path(bench.environ["INTERLOCK_SSH_ROOT"])


def eventually(holds: Callable[[], object], within_s: float = 20.0) -> bool:
    end = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def sent(said: Said) -> list[str]:
    """What was sent, by the last part of its path."""
    return [line.split("send ")[1].split(" to ")[0].rpartition("/")[2] for line in said.err.splitlines() if "|" in line and "send " in line]


def test_an_artifact_is_sent_once_and_one_that_was_damaged_there_again(bench: Bench, folder: Path) -> None:
    said = bench.build(folder)
    made = {step["step"]: step["digest"] for step in report(said)["steps"]}
    assert sent(said) == [made["words"], made["louder"]]
    again = bench.build(folder, "--force", "--only", "louder")
    assert again.code == 0 and sent(again) == [] and report(again)["steps"][1]["digest"] == made["louder"]

    kept = clone(bench) / ".interlock" / "ssh" / "artifacts"
    for file in kept.glob("*/train.jsonl"):
        file.write_text("damaged\n")
    third = bench.build(folder, "--force", "--only", "louder")
    assert third.code == 0 and sent(third) == [made["words"]] and report(third)["steps"][1]["digest"] == made["louder"]
    there = str(clone(bench)).encode()
    assert [str(file) for file in folder.rglob("*") if file.is_file() and there in file.read_bytes() and file.suffix != ".log"] == []


def test_a_connection_that_breaks_ends_the_stage_and_the_same_command_goes_on(bench: Bench, folder: Path) -> None:
    (folder / "recipe.toml").write_text(SLOW)
    with building(bench, folder) as build:
        assert eventually(lambda: working(bench))
        time.sleep(0.5)
        (connection,) = connections(bench, "ssh")
        os.kill(connection, signal.SIGKILL)
        out, err = build.communicate(timeout=20)
    Said(build.returncode, out, err).refused(5, "the connection broke while the stage ran on", "run the same command again")
    assert eventually(lambda: bench.left() == [] and not working(bench), 5), "the stage is still there"

    (folder / "recipe.toml").write_text(SLOW.replace("60.0", "0.0"))
    assert bench.build(folder).code == 0


def test_what_a_machine_that_broke_down_left_is_removed_by_the_next_run(bench: Bench, folder: Path) -> None:
    (folder / "recipe.toml").write_text(SLOW)
    with building(bench, folder) as build:
        assert eventually(lambda: working(bench))
        for pid in connections(bench, "python"):
            os.kill(pid, signal.SIGKILL)
        build.communicate(timeout=20)
    assert build.returncode == 5 and len(bench.left()) == 1
    assert eventually(lambda: not working(bench), 5), "a stage outlives what has started it there"
    (folder / "recipe.toml").write_text(SLOW.replace("60.0", "0.0"))
    assert bench.build(folder).code == 0 and bench.left() == []


@contextlib.contextmanager
def building(bench: Bench, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A build that does not outlive the test, however that ends."""
    pipe = subprocess.PIPE
    with subprocess.Popen(bench.argv(), cwd=folder, env=bench.around(folder), stdout=pipe, stderr=pipe, text=True) as build:
        try:
            yield build
        finally:
            build.kill()


def working(bench: Bench) -> list[int]:
    """Stages in the clone: not what is asked of its interpreter before one."""
    return [pid for pid in having(bench, b"pipeline.here") if str(clone(bench) / ".interlock").encode() in words_of(pid)]


def connections(bench: Bench, program: str) -> list[int]:
    """The ends of connections into the clone that are run by that program."""
    found = having(bench, b"pipeline.launchers.ssh_there")
    return [pid for pid in found if Path(f"/proc/{pid}/exe").resolve().name.startswith(program)]


def having(bench: Bench, text: bytes) -> list[int]:
    """Processes with that text and this bench's clone in their words: other tests have connections at the same time."""
    pids = (int(path.name) for path in Path("/proc").glob("[0-9]*"))
    return [pid for pid in pids if text in (words := words_of(pid)) and str(clone(bench)).encode() in words]


def words_of(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def test_another_clone_is_refused_before_any_work(bench: Bench, folder: Path) -> None:
    """Also where the note of an earlier build says that it fits: what a stage meets counts."""
    assert bench.build(folder, "--only", "words").code == 0
    site = next((clone(bench) / "envs" / "train" / ".venv" / "lib").glob("python*/site-packages")).relative_to(clone(bench))
    wrong = {
        "pipeline/here.py": ("source digest", "bring the clone there to the state of this one"),
        "envs/train/requirements.lock": ("lock digest", "ci/sync --force train"),
        "envs/train/.venv/.synced": ("it was not made from this lock", "ci/sync --force train"),
        f"{site}/jinja2/__init__.py": ("jinja2/__init__.py (edited)", "ci/sync --force train"),
    }
    for file, (what, remedy) in wrong.items():
        path = clone(bench) / file
        text = path.read_bytes()
        path.unlink()  # uv's copy of an installed file may be the same file
        path.write_bytes(text + b"\n# another\n")
        try:
            for _ in ("by the stage, which forgets the note", "by the next command")[: 2 if file == "pipeline/here.py" else 1]:
                began = time.monotonic()
                said = bench.build(folder, "--force", "--only", "words")
                assert time.monotonic() - began < ssh_frames.SILENCE_S / 2, "it waited until the other side fell silent"
                said.refused(4, "the clone on ", "cannot stand for environment `train`", what, str(clone(bench)), remedy)
        finally:
            path.write_bytes(text)
    assert bench.build(folder, "--force", "--only", "words").code == 0


def test_an_environment_that_is_not_there_is_refused_with_the_command_that_makes_it(bench: Bench, folder: Path) -> None:
    elsewhere = dataclasses.replace(bench, environ={**bench.environ, "INTERLOCK_SSH_ROOT": "/nowhere/clone"})
    elsewhere.build(folder).refused(4, "there is no such environment", "cd /nowhere/clone && ci/sync train")


def test_a_host_key_that_is_not_known_is_never_taken(bench: Bench, folder: Path) -> None:
    known = folder / "known"
    words = bench.environ["INTERLOCK_SSH"].rpartition("UserKnownHostsFile=")[0] + f"UserKnownHostsFile={known} -o StrictHostKeyChecking=no"
    bench.build(folder, more={"INTERLOCK_SSH": words}).refused(4, "its host key is not known here", "fingerprint")
    assert not known.exists()


def test_no_password_is_asked_for(bench: Bench, folder: Path) -> None:
    key = folder / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    words = bench.environ["INTERLOCK_SSH"].replace(f"{bench.base}/sshd/user", str(key))
    bench.build(folder, more={"INTERLOCK_SSH": words}).refused(4, "does not let you in without a question", "ssh-copy-id")


def test_without_a_host_the_message_names_the_variables(bench: Bench, folder: Path) -> None:
    for name in ("HOST", "ROOT"):
        bench.build(folder, more={f"INTERLOCK_SSH_{name}": ""}).refused(4, "does not know where to go", "INTERLOCK_SSH_HOST", "INTERLOCK_SSH_ROOT")


def test_a_verb_by_itself_is_not_started_where_its_files_are_not(tmp_path: Path) -> None:
    said = interlock("export", "--checkpoint", "none", "--out", "out", cwd=tmp_path, environ={"INTERLOCK_LAUNCHER": "ssh"})
    said.refused(2, "`export` by itself cannot be started by launcher `ssh`", "INTERLOCK_LAUNCHER=uv interlock export")


def test_silence_is_the_end_and_a_sign_of_life_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh_frames, "SILENCE_S", 0.5)
    monkeypatch.setattr(ssh_frames, "PING_S", 0.1)
    source, target = os.pipe()
    channel = Channel(source, target)
    with channel.alive():
        threading.Timer(1.5, channel.say, [{"late": True}]).start()
        assert channel.document() == {"late": True}
    with pytest.raises(Lost):
        channel.document()
    os.close(target)
    with pytest.raises(Lost):
        channel.receive()


def test_what_cannot_be_written_there_is_told_as_such(bench: Bench, folder: Path) -> None:
    """A folder that cannot be made; a full disk is told in the same way."""
    assert bench.build(folder, "--only", "words").code == 0
    kept = clone(bench) / ".interlock" / "ssh" / "artifacts"
    shutil.rmtree(kept, ignore_errors=True)
    kept.write_text("no folder")
    try:
        said = bench.build(folder, "--force", "--only", "louder")
        said.refused(5, str(kept), "Not a directory")
        assert "broke" not in said.err
    finally:
        kept.unlink()


@pytest.mark.parametrize("kind", ["..", "/absolute", "link", "device"])
def test_an_archive_from_the_other_side_leaves_its_folder_by_no_way(tmp_path: Path, kind: str) -> None:
    member = tarfile.TarInfo({"..": "a/../../outside", "/absolute": str(tmp_path / "outside")}.get(kind, "a/inside"))
    member.type, member.linkname = {"link": (tarfile.SYMTYPE, "/etc"), "device": (tarfile.CHRTYPE, "")}.get(kind, (tarfile.REGTYPE, ""))
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as writer:
        writer.addfile(member, io.BytesIO())
    source, target = os.pipe()
    channel = Channel(source, target)
    channel.send(b"D", archive.getvalue())
    channel.send(b"E")
    with pytest.raises(StageFailed, match="no file of ours"):
        unpack(channel, lambda name: tmp_path / "inside" / name)
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("ssh: Could not resolve hostname nobody: Name or service not known", "nobody knows that name"),
        ("ssh: connect to host 127.0.0.1 port 1: Connection refused", "it cannot be reached"),
        ("command-line: line 0: Bad configuration option: colour", "ssh does not take these words"),
        ("/clone/envs/train/.venv/bin/python: No module named pipeline.launchers.ssh_there", "another version of interlock"),
        ("something that nobody has seen before", "it failed"),
    ],
)
def test_a_refusal_names_its_cause(bench: Bench, said: str, why: str) -> None:
    problem = refused(Place("user@host", "clone", ("/usr/bin/ssh",)), bench.env, 255, f"Warning: a line before\n{said}\n")
    assert problem.exit_code == 4 and why in problem.problem and said.split(":")[0] in problem.running


def test_the_script_that_finds_sshd_takes_what_is_there_and_otherwise_says_how_to_get_it(tmp_path: Path, root: Path) -> None:
    script, shell = root / "ci" / "sshd", str(shutil.which("sh"))
    (tmp_path / "sshd").write_text("#!/bin/sh\n")
    (tmp_path / "sshd").chmod(0o755)
    assert run([shell, str(script)], environ={"PATH": str(tmp_path)}).out.split() == [str(tmp_path / "sshd")]
