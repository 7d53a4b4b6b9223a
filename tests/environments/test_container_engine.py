"""What an engine's refusals mean, in words that engines, pip and uv really say, and the script that finds or installs one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from interlock.environments import ROOT, environments
from interlock.errors import EnvironmentRefused
from pipeline.launchers import container_engine
from pipeline.launchers.container_engine import Engine, engine, refused

SAID = [
    (
        "ERROR: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
        "daemon does not answer",
        "systemctl",
    ),
    ("permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock", "may not speak", "group `docker`"),
    ('Error: writing blob: storing blob to file "/var/tmp/storage1/2": write /var/tmp/storage1/2: no space left on device', "no space", "prune"),
    (
        "error: The requested interpreter resolved to Python 3.13.0, which is incompatible with the project's Python requirement: `>=3.10, <3.12`"
        ' (from `project.requires-python`)\nError: building at STEP "RUN …": exit status 2',
        "the Python of the base image",
        "INTERLOCK_CONTAINER_BASE",
    ),
    (
        'Error: creating build container: initializing source docker://python:3.11-slim: pinging container registry docker.io: Get "https://…/v2/":'
        " dial tcp: lookup registry-1.docker.io on 10.0.0.1:53: no such host",
        "cannot be reached",
        "ci/base-image",
    ),
    ("Error: creating build container: localhost/nothing:1: image not known", "no such base image", "ci/base-image"),
    (
        "ERROR: failed to solve: nothing:1: pull access denied, repository does not exist or may require authorization",
        "no such base image",
        "pull it",
    ),
    ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: …", "not trusted", "SSL_CERT_FILE"),
    ("Error: container-init binary not found on the host: stat /usr/libexec/podman/catatonit: no such file", "the small init", "catatonit"),
    ("Error: runc: … error setting rlimit type 7: operation not permitted: OCI permission denied", "limits on open files", "--ulimit nofile"),
    ("Error: crun: cgroups in hybrid mode not supported, drop all controllers from cgroup v1: OCI runtime error", "control groups", "cgroupfs"),
    ("Error: something that nobody has seen before", "failed", "mend what its lines name"),
]


@pytest.mark.parametrize(("said", "why", "remedy"), SAID)
def test_a_refusal_names_its_cause_and_what_to_do(said: str, why: str, remedy: str) -> None:
    problem = refused(environments()["export"], Engine(("/usr/bin/podman",)), f"STEP 1/9: FROM x\n\n{said}\n", "x")
    assert problem.exit_code == 4 and why in problem.problem and remedy in problem.remedy
    assert said.splitlines()[0][:60] in problem.running


def test_without_an_engine_the_message_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("INTERLOCK_CONTAINER_ENGINE", raising=False)
    with pytest.raises(EnvironmentRefused, match="there is no container engine") as found:
        engine()
    assert found.value.exit_code == 4 and "apt-get install podman" in found.value.remedy and "--launcher uv" in found.value.remedy
    monkeypatch.setenv("INTERLOCK_CONTAINER_ENGINE", "mine --flag")
    with pytest.raises(EnvironmentRefused) as found:
        engine()
    assert "`mine`" in found.value.required


def test_podman_comes_first_and_a_named_engine_before_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("podman", "docker"):
        script(tmp_path, name, "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("INTERLOCK_CONTAINER_ENGINE", raising=False)
    assert engine().words == (str(tmp_path / "podman"),)
    monkeypatch.setenv("INTERLOCK_CONTAINER_ENGINE", "docker --context 'a b'")
    assert engine().words == (str(tmp_path / "docker"), "--context", "a b") and not engine().is_podman


@pytest.mark.parametrize(
    ("name", "answer", "uid", "expected"),
    [
        ("podman", "", 1000, ("--userns=keep-id", "--user", "1000:1000")),
        ("podman", "", 0, ("--user", "0:0")),
        ("docker", "[name=seccomp,profile=builtin]", 1000, ("--user", "1000:1000")),
        ("docker", "[name=seccomp,profile=builtin name=rootless]", 1000, ("--user", "0:0")),
    ],
)
def test_what_a_container_makes_belongs_to_the_caller(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, answer: str, uid: int, expected: tuple[str, ...]
) -> None:
    monkeypatch.setattr(container_engine.os, "getuid", lambda: uid)
    monkeypatch.setattr(container_engine.os, "getgid", lambda: uid)
    assert Engine((str(script(tmp_path, name, f"echo '{answer}'")),)).as_caller() == expected


def test_the_engine_alone_gets_what_it_reads_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in container_engine.ITS_OWN:
        monkeypatch.delenv(name, raising=False)
    by = Engine((str(script(tmp_path, "podman", 'echo "$DOCKER_HOST $*"')),))
    assert by.command("run") == [*by.words, "run"]
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/a b.sock")
    command = by.command("run", "image")
    assert subprocess.run(command, env={}, capture_output=True, text=True, check=True).stdout == "unix:///run/a b.sock run image\n"


def script(folder: Path, name: str, body: str) -> Path:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)
    return file


def ci(folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """ci/container-engine with nothing on PATH but what `folder` holds."""
    environment = {"PATH": str(folder), "TMPDIR": str(folder), **environ}
    return subprocess.run(["/bin/sh", ROOT / "ci" / "container-engine"], env=environment, capture_output=True, text=True, check=False)


def test_ci_takes_an_engine_that_answers_as_it_is(tmp_path: Path) -> None:
    script(tmp_path, "podman", "exit 125")
    script(tmp_path, "docker", "exit 0")
    said = ci(tmp_path)
    assert (said.returncode, said.stdout) == (0, "INTERLOCK_CONTAINER_ENGINE=docker\n"), said.stderr


def test_ci_gives_the_settings_for_a_machine_that_is_itself_a_container(tmp_path: Path) -> None:
    for name, body in {"podman": "exit 0", "runc": "exit 0", "id": "echo 0", "stat": "echo tmpfs"}.items():
        script(tmp_path, name, body)
    lines = ci(tmp_path).stdout.splitlines()
    assert lines[0] == "INTERLOCK_CONTAINER_ENGINE='podman --cgroup-manager cgroupfs --runtime runc'"
    assert [line.partition("=")[0] for line in lines[1:]] == ["INTERLOCK_CONTAINER_BUILD", "INTERLOCK_CONTAINER_RUN"]
    script(tmp_path, "stat", "echo cgroup2fs")
    assert ci(tmp_path).stdout == "INTERLOCK_CONTAINER_ENGINE=podman\n"


def test_ci_without_one_and_without_the_right_to_install_it_says_how(tmp_path: Path) -> None:
    script(tmp_path, "id", "echo 1000")
    (tmp_path / "cat").symlink_to("/bin/cat")
    said = ci(tmp_path)
    assert said.returncode == 4 and said.stdout == "" and "hint: install podman" in said.stderr
    assert ci(tmp_path, INTERLOCK_CONTAINER_ENGINE="/not/there").returncode == 4
