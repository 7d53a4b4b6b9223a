"""Images built by a real engine, and what a process in one sees of the machine. What every launcher must do: test_launcher_conformance.py."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.containers import ContainerProject, container_project

from interlock.environments import Environment, environments
from interlock.errors import EnvironmentRefused
from interlock.voice import SilentVoice
from pipeline.driver.index import Index
from pipeline.installed.launched import prove
from pipeline.launchers import Job, container

pytestmark = [pytest.mark.e2e, pytest.mark.long]

# What a process in the container finds, told as JSON. A place in its arguments is tried for reading and for writing.
LOOK = """
import json, os, socket, sys
def tried(action, *words):
    try:
        return str(action(*words))
    except OSError as error:
        return os.strerror(error.errno) if error.errno else str(error)
def write(path):
    with open(path, "w") as stream:
        stream.write("x")
    return "written"
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "uid": os.getuid(), "capabilities": int(status["CapEff"], 16) | int(status["CapPrm"], 16), "no_new_privileges": status["NoNewPrivs"].strip(),
    "here": os.getcwd(), "links": sorted(os.listdir("/sys/class/net")), "network": tried(socket.create_connection, ("192.0.2.1", 9), 1),
    "written": {path: tried(write, path) for path in sys.argv[2:]}, "listed": {path: os.listdir(path) for path in sys.argv[1].split(":")},
    "environment": sorted(os.environ),
}))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContainerProject]:
    made = container_project(tmp_path_factory.mktemp("container"))
    yield made
    made.remove()


@pytest.fixture
def env(project: ContainerProject, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """Environment `train` of the copy, its image there, and the launcher as it is in the copy."""
    monkeypatch.setattr(container, "ROOT", project.root)
    for name, value in project.environ.items():
        monkeypatch.setenv(name, value)
    if not container.ready(project.env):
        container.prepare(project.env)
    return project.env


def test_a_stage_sees_its_places_and_nothing_else_of_the_machine(project: ContainerProject, env: Environment, tmp_path: Path) -> None:
    mine, reads, hidden, refused, here = (tmp_path / name for name in ("mine", "reads", "hidden", "refused, or: not", "here"))
    for folder in (mine, reads, hidden, here):
        folder.mkdir()
        (folder / "file").write_text(folder.name)
    job = Job(mine, (reads, tmp_path / "not there"), (refused,), here)
    command = container.command(env, ["-I", "-c", LOOK, f"{tmp_path}:{here}:{reads}:/", *map(str, places(job, hidden))], job)
    command.insert(command.index("run") + 1, "--entrypoint=python")
    told = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)

    assert found["uid"] == os.getuid() and found["capabilities"] == 0 and found["no_new_privileges"] == "1"
    assert found["links"] == ["lo"] and found["network"] == "Network is unreachable"
    assert sorted(found["listed"][str(tmp_path)]) == ["here", "mine", "reads", "refused, or: not"]
    assert found["listed"][str(here)] == [] and found["here"] == str(here) and found["listed"][str(reads)] == ["file"]
    written = {path for path, answer in found["written"].items() if answer == "written"}
    assert written == {str(mine / "new"), str(refused / "new"), "/tmp/new"}, found["written"]
    assert (mine / "new").read_text() == (refused / "new").read_text() == "x" and (mine / "new").stat().st_uid == os.getuid()
    assert not (here / "new").exists() and (reads / "file").read_text() == "reads"
    assert not {"SSH_AUTH_SOCK", "INTERLOCK_CONTAINER_ENGINE", "INTERLOCK_CONTAINER_BASE"} & set(found["environment"])


def places(job: Job, hidden: Path) -> list[Path]:
    new = [folder / "new" for folder in (job.folder, *job.writes, job.reads[0], job.here, hidden)]
    elsewhere = ["/tmp", "/", "/opt/interlock/pipeline", "/opt/venv", "/etc", "/var/tmp", "/run", "/root", "/usr/local/bin", "/sys", "/proc"]
    return [*new, job.reads[0] / "file", *(Path(folder, "new") for folder in elsewhere)]


def test_an_image_says_what_it_is_and_starts_by_itself(project: ContainerProject, env: Environment) -> None:
    identity = container.image(env)
    assert identity is not None
    told = json.loads(project.engine("image", "inspect", identity).out)[0]
    labels = told["Config"]["Labels"]
    assert (labels["org.interlock.environment"], labels["org.interlock.lock-digest"]) == ("train", env.lock_digest)
    assert len(labels["org.interlock.source-digest"]) == 64 and labels["org.opencontainers.image.base.name"] == "localhost/base:3.13"
    assert told["Config"]["User"] == "10001:10001"
    bare = ["run", "--rm", "--network=none", "--read-only", *container.flags("run"), identity]
    assert project.engine(*bare, "--version").out.startswith("interlock ")
    assert json.loads(project.engine(*bare, "stages", "--json").out) is not None
    assert project.engine(*bare[:-1], "--entrypoint=python", identity, "-c", "import importlib.util as u; print(u.find_spec('uv'))").out == "None\n"


def test_a_base_image_of_another_python_is_refused_by_the_definition(project: ContainerProject, env: Environment) -> None:
    with pytest.raises(EnvironmentRefused) as refused:
        container.prepare(environments(project.root)["export"])
    problem = refused.value
    assert problem.exit_code == 4 and "the Python of the base image is not one that the environment admits" in problem.problem
    assert problem.required.startswith("Python >=3.10,<3.12 (requires-python of envs/export/pyproject.toml)")
    assert "localhost/base:3.11: " in problem.running and "resolved to Python 3.13" in problem.running and ">=3.10, <3.12" in problem.running
    assert container.python_version(environments(project.root)["export"]) is None and not container.ready(environments(project.root)["export"])


def test_an_edit_makes_another_image_on_the_layers_of_the_lock(
    project: ContainerProject, env: Environment, capfd: pytest.CaptureFixture[str]
) -> None:
    before, python = container.image(env), container.python_version(env)
    file = project.root / "eval" / "__init__.py"
    text = file.read_text()
    file.write_text(text + "# edited\n")
    assert not container.ready(env) and container.python_version(env) == python
    capfd.readouterr()
    container.prepare(env)
    said = capfd.readouterr().err
    assert container.ready(env) and container.image(env) != before
    assert "pydantic==" not in said, "the packages were installed again"
    file.write_text(text)
    assert not container.ready(env)
    started = time.monotonic()
    container.prepare(env)  # the former image is still there
    assert container.image(env) == before and time.monotonic() - started < 5


def test_what_needs_no_work_takes_milliseconds_and_no_engine(project: ContainerProject, env: Environment) -> None:
    asked = len(project.calls)
    started = time.monotonic()
    assert container.ready(env) and container.python_version(env) and container.image(env)
    assert time.monotonic() - started < 0.5 and len(project.calls) == asked


def test_an_image_that_was_removed_is_told_and_built_by_the_next_command(project: ContainerProject, env: Environment, tmp_path: Path) -> None:
    identity = container.image(env)
    assert identity is not None and project.engine("rmi", "--force", "--no-prune", identity).code == 0
    with pytest.raises(EnvironmentRefused, match="the image of environment `train` is gone") as refused:
        container.command(env, ["stage"], Job(tmp_path, (), (), tmp_path))
    assert "run the same command again" in refused.value.remedy and not container.ready(env)
    container.prepare(env)
    assert container.ready(env)


def test_a_note_that_was_damaged_counts_as_none(project: ContainerProject, env: Environment) -> None:
    file = project.root / ".interlock" / "images" / "train.json"
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"sha256:", b"sha255:", 1))
    assert (container.ready(env), container.image(env), container.python_version(env)) == (False, None, None)
    file.write_bytes(whole)
    assert container.ready(env)


def test_env_check_proves_the_image_by_the_hashes_of_the_files_in_it(project: ContainerProject, env: Environment, tmp_path: Path) -> None:
    proof = prove(env, "container", Index(), SilentVoice(), paranoid=False)
    # The stub's wheel has a RECORD without hashes, as no wheel from an index: that is all.
    assert {(one.distribution, one.expected) for one in proof.differences} == {("interlock-stub", "a hash in its RECORD (interlock-stub)")}
    assert proof.dists > 10 and proof.files > 500

    # An image of the same name in which a file was edited: the engine knows no better.
    (tmp_path / "Containerfile").write_text(
        f"FROM {container.image(env)}\nUSER 0\nRUN echo >>$(echo /opt/venv/lib/python3*/site-packages/rich/box.py)\nUSER 10001:10001\n"
    )
    tag = "localhost/edited:1"
    further = shlex.split(project.environ.get("INTERLOCK_CONTAINER_BUILD", ""))
    assert project.engine("build", *further, "--tag", tag, "--file", str(tmp_path / "Containerfile"), str(tmp_path)).code == 0
    edited = project.engine("image", "inspect", "--format", "{{.Id}}", tag).out.strip()
    command = [
        edited if word == container.image(env) else word for word in container.command(env, ["env", "check", "train", "--launcher", "current"])
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert said.returncode == 4 and "/opt/venv/lib/python3.13/site-packages/rich/box.py" in said.stdout
