"""The machine and its store: what is broken for real, in this process's surroundings or in folders of the test."""

from __future__ import annotations

import fcntl
import os
import resource
import time
from pathlib import Path

import pytest
from fakes.doctors import clone, looked, program, wrong

from interlock.environments import ROOT
from pipeline.doctor.place import Place
from pipeline.driver.store import Store

pytestmark = pytest.mark.train


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return clone(tmp_path)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH, without pyenv."""
    folder = tmp_path / "path"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "no-pyenv"))
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path / "no-pythons"))
    monkeypatch.delenv("UV_PYTHON_SEARCH_PATH", raising=False)
    return folder


def found_python(name: str) -> Path:
    env = {"python3.11": "export", "python3.13": "train"}[name]
    return (ROOT / "envs" / env / ".venv" / "bin" / "python").resolve()


def test_a_python_that_is_not_on_path_is_named_although_environments_stand(place: Place, path: Path) -> None:
    (path / "python3.13").symlink_to(found_python("python3.13"))
    (found,) = wrong(looked(place, "interpreters"))
    assert found.level == "error" and found.found.startswith("python3.11 is not there") and "`export`" in found.expected
    assert "apt-get install python3.11" in found.remedy and str(path) in found.evidence


@pytest.mark.parametrize("with_uv", [True, False])
def test_pyenvs_shim_without_a_python_behind_it_is_told(
    place: Place, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_uv: bool
) -> None:
    if not with_uv:
        for name in (".uv", ".venv"):
            (place.root / name).unlink()
    shims = program(tmp_path / "pyenv" / "shims", "python3.11", "echo 'pyenv: python3.11: command not found' >&2; exit 127").parent
    monkeypatch.setenv("PATH", f"{shims}{os.pathsep}{path}")
    (path / "python3.13").symlink_to(found_python("python3.13"))
    (found,) = wrong(looked(place, "interpreters"))
    assert f"shim {shims / 'python3.11'} has none behind it" in found.found
    behind = tmp_path / "pyenv" / "versions" / "3.11.0" / "bin"
    behind.mkdir(parents=True)
    (behind / "python3.11").symlink_to(found_python("python3.11"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    sound = looked(place, "interpreters")
    assert wrong(sound) == [] and any(str(behind) in one.found and "which ci/env looks behind" in one.found for one in sound)


def test_a_nix_that_is_stuck_costs_its_limit_and_stops_only_builds_by_nix(place: Place, path: Path) -> None:
    program(path, "nix", "exec /bin/sleep 60")
    started = time.monotonic()
    found = looked(place, "nix")
    assert time.monotonic() - started < 12
    assert wrong(found) == [] and "gave no answer" in found[0].found and found[0].remedy
    (path / "nix").unlink()
    (error,) = wrong(looked(Place(place.root, place.store, "nix"), "nix"))
    assert error.level == "error" and "apt-get install nix-bin" in error.remedy


def test_a_nix_without_flakes_says_which_line_enables_them(place: Place, path: Path) -> None:
    program(path, "nix", 'case "$*" in *ping*|--version) echo "nix 2.18";; *) echo "error: experimental Nix feature is disabled" >&2; exit 1;; esac')
    answers, flakes = looked(place, "nix")
    assert "its store answers" in answers.found and "experimental-features = nix-command flakes" in flakes.remedy


def test_what_a_container_engine_says_is_understood(place: Place, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INTERLOCK_CONTAINER_ENGINE", raising=False)
    program(path, "podman", "echo 'Error: newuidmap: no subuid ranges found for user' >&2; exit 125")
    by_container = Place(place.root, place.store, "container")
    (found,) = wrong(looked(by_container, "container"))
    assert found.level == "error" and "no range of user ids" in found.found and "usermod" in found.remedy
    assert wrong(looked(place, "container")) == []
    program(path, "podman", """echo '{"store": {"graphRoot": "/proc"}}'""")
    assert [one.level for one in looked(by_container, "container")] == ["info", "warning"]  # /proc has no room
    (path / "podman").unlink()
    assert "there is no container engine" in wrong(looked(by_container, "container"))[0].found


def test_another_machine_is_asked_only_where_one_is_named(place: Place, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOST", "ROOT"):
        monkeypatch.delenv(f"INTERLOCK_SSH_{name}", raising=False)
    monkeypatch.delenv("INTERLOCK_SSH", raising=False)
    assert [one.found for one in looked(place, "ssh")] == ["no other machine is named"]
    there = Place(place.root, place.store, "ssh")
    assert "does not know where to go" in wrong(looked(there, "ssh"))[0].found
    monkeypatch.setenv("INTERLOCK_SSH_HOST", "me@there")
    monkeypatch.setenv("INTERLOCK_SSH_ROOT", str(ROOT))
    program(path, "ssh", "echo 'ssh: Could not resolve hostname there: Name or service not known' >&2; exit 255")
    (found,) = wrong(looked(there, "ssh"))
    assert found.level == "error" and "nobody knows that name" in found.found and "INTERLOCK_SSH_HOST" in found.remedy
    program(path, "ssh", 'for last; do :; done; exec /bin/sh -c "$last"')  # there is here
    answers = looked(place, "ssh")
    assert wrong(answers) == [] and [one.found for one in answers] == [f"environment `{env}` answers on me@there" for env in ("export", "train")]


def test_a_launcher_that_does_not_exist(place: Place) -> None:
    (found,) = wrong(looked(Place(place.root, place.store, "docker"), "launcher"))
    assert "`docker`" in found.found and "container" in found.expected


def test_no_compiler(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", str(tmp_path / "no-cc"))
    (found,) = wrong(looked(place, "compiler"))
    assert found.level == "warning" and "no-cc" in found.found and "apt-get install gcc" in found.remedy


def test_a_clock_that_is_behind_the_clones_files(place: Place) -> None:
    ahead = time.time() + 3600
    os.utime(place.root / "envs" / "train" / "requirements.lock", (ahead, ahead))
    (found,) = wrong(looked(place, "clock"))
    assert "behind a file of the clone" in found.found and found.evidence.endswith("envs/train/requirements.lock")
    assert 3500 < int(found.found.split()[3]) <= 3600


def test_few_descriptors(place: Place) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        (found,) = wrong(looked(place, "descriptors"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found.found.startswith("256 open files") and found.remedy.startswith("ulimit -n ")


def test_the_file_system_of_the_store_is_tried_and_left_as_it_was(place: Place) -> None:
    before = sorted(place.root.rglob("*.partial*"))
    (found,) = looked(place, "file-system")
    assert found.level == "info" and "exchanges directories" in found.found
    assert sorted(place.root.rglob("*.partial*")) == before and not place.store.root.exists()
    memory = Place(place.root, Store(Path("/dev/shm/no-such-store")), "uv")
    (found,) = looked(memory, "file-system")
    assert found.found == "tmpfs: exchanges directories, does not share the blocks of copies"


def test_a_folder_that_cannot_be_written_is_no_place_for_a_store(place: Place) -> None:
    (found,) = wrong(looked(Place(place.root, Store(Path("/proc/store")), "uv"), "file-system"))
    assert found.level == "error" and "/proc" in found.found


def test_what_was_left_in_the_store_is_told(place: Place) -> None:
    store = place.store
    store.prepare()
    (store.root / "objects" / "aa" / "aabb").mkdir(parents=True)
    (store.root / "objects" / "aa" / "aabb" / "file").write_bytes(bytes(1000))
    assert wrong(looked(place, "store")) == []
    assert "1 artifacts, 1.0 kB" in looked(place, "store")[-1].found
    (store.root / "leases" / "12-left.alive").write_text("")
    with (store.root / "leases" / "13-held.alive").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        told = " ".join(one.found for one in looked(place, "store"))
    assert "1 builds are running" in told and "1 leases of killed builders" in told
    (store.root / "quarantine" / "aabb-1").mkdir()
    (store.root / "quarantine" / "aabb-1.json").write_text("{}")
    (store.root / "form").write_text("9\n")
    form, damaged = wrong(looked(place, "store"))
    assert form.level == "error" and "`9`" in form.found
    assert damaged.level == "warning" and damaged.found.startswith("1 damaged") and "interlock fsck" in damaged.remedy


def test_little_room_is_told_before_it_is_needed(place: Place) -> None:
    """/proc is a file system without any."""
    (place.root / "envs" / "train" / ".venv").unlink()
    found = looked(Place(place.root, Store(Path("/proc/store")), "uv"), "space")
    assert "environments train, not yet made" in found[0].found
    assert found[1].level == "warning" and "for a build" in found[1].found and "interlock gc" in found[1].remedy
